import neostandard from 'neostandard'

export default [
  ...neostandard({ ts: true, ignores: ['proto/gen/**', '.stack/**', '.stack-test/**', '.tap/**'] }),
  {
    files: ['**/*.ts'],
    rules: {
      '@typescript-eslint/consistent-type-imports': 'error'
    }
  }
]
