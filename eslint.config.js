import neostandard from 'neostandard'

export default [
  ...neostandard({ ts: true, ignores: ['proto/gen/**', '.stack/**', '.tap/**'] }),
  {
    files: ['**/*.ts'],
    rules: {
      '@typescript-eslint/consistent-type-imports': 'error'
    }
  }
]
