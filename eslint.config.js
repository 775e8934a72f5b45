import neostandard from 'neostandard'

const onlyService = 'Only plugins/service touches `process` and `cluster`.'

export default [
  ...neostandard({ ts: true, ignores: ['proto/gen/**', '.stack/**', '.stack-test/**', '.stack-crash/**', '.tap/**', '.turbo/**'] }),
  {
    files: ['**/*.ts'],
    rules: {
      '@typescript-eslint/consistent-type-imports': 'error',
      // A schema and the type derived from it share one name, as TypeBox's own documents have it.
      '@typescript-eslint/no-redeclare': 'off',
      // `void promise` says that nobody waits for it, on purpose.
      'no-void': ['error', { allowAsStatement: true }]
    }
  },
  {
    // Settings come in through plugins/service; command lines read their own.
    files: ['{apps,plugins,modules}/**/*.ts'],
    ignores: ['plugins/service/**', '**/*.test.ts'],
    rules: {
      'no-restricted-globals': ['error', { name: 'process', message: onlyService }],
      'no-restricted-properties': ['error', { object: 'globalThis', property: 'process', message: onlyService }],
      'no-restricted-imports': ['error', { paths: ['node:process', 'process', 'node:cluster', 'cluster'].map(name => ({ name, message: onlyService })) }]
    }
  }
]
