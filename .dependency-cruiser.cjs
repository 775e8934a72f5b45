/** Which way dependencies point: apps → plugins and modules; modules → the contract and proto; never back, never in a circle. */
const drivers = '^node_modules/(fastify|fastify-plugin|@fastify|kafkajs|pg|mongodb|@grpc)(/|$)'
const tests = '[.]test[.]ts$'

module.exports = {
  forbidden: [
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } } },
    { name: 'no-unresolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
    { name: 'modules-know-the-contract-only', comment: 'A domain has no I/O of its own', severity: 'error', from: { path: '^modules/' }, to: { pathNot: ['^modules/', '^plugins/cqrs/', '^proto/', '^node_modules/(typebox|kysely|validator|tap|@types)(/|$)', '^(node:)?util$'] } },
    { name: 'a-domain-knows-no-other', severity: 'error', from: { path: '^modules/([^/]+)/' }, to: { path: '^modules/([^/]+)/', pathNot: '^modules/$1/' } },
    { name: 'the-contract-has-no-io', severity: 'error', from: { path: '^plugins/cqrs/', pathNot: tests }, to: { path: [drivers, '^(node:)?(fs|net|http|https|child_process|dgram|tls|worker_threads)(/|$)', '^plugins/(?!cqrs/)', '^(apps|modules|stack|tools)/'], pathNot: '^node_modules/@fastify/error' } },
    { name: 'plugins-know-no-domain', severity: 'error', from: { path: '^plugins/', pathNot: tests }, to: { path: '^(apps|modules|stack|tools|test|benchmarks)/' } },
    { name: 'nobody-knows-an-app', severity: 'error', from: { pathNot: ['^(apps|test|benchmarks)/', tests] }, to: { path: '^apps/' } },
    { name: 'apps-only-register', severity: 'error', from: { path: '^apps/' }, to: { path: ['^node_modules/(?!fastify/|typebox/|tap/)', '^(stack|tools|test)/'], pathNot: '^node_modules/@types' } },
    { name: 'through-the-package', comment: 'Another workspace is reached by its package name, and so through its exports', severity: 'error', from: { path: '^(apps/[^/]+|plugins/[^/]+|modules|proto|stack|tools|test)/' }, to: { path: '^(apps|plugins|modules|proto|stack|tools|test)/', pathNot: '^$1/', dependencyTypes: ['local'] } },
    { name: 'listed-in-package-json', severity: 'error', from: { path: '^(apps|plugins|modules|proto|stack|tools)/', pathNot: [tests, '^plugins/cqrs/conformance.ts$', '^proto/gen/'] }, to: { dependencyTypes: ['npm-no-pkg', 'npm-unknown', 'npm-dev'] } }
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^(proto/gen|[.]stack|[.]tap)' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    combinedDependencies: false,
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default', 'types'] }
  }
}
