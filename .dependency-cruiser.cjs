/** Which way dependencies point: apps → plugins and modules; modules → the contract and proto; never back, never in a circle. */
const { globSync, readFileSync } = require('node:fs')
const { dirname } = require('node:path')

const tests = '[.]test[.]ts$'
const workspaces = JSON.parse(readFileSync('package.json', 'utf8')).workspaces
  .flatMap(pattern => globSync(`${pattern}/package.json`))
  .map(path => ({ folder: dirname(path), ...JSON.parse(readFileSync(path, 'utf8')) }))
const inWorkspaces = `^(${workspaces.map(({ folder }) => folder).join('|')})/`

// A workspace is found as a link whether it is listed or not: what a package.json does not list is told from here.
const listed = workspaces.map(({ folder, name, dependencies = {} }) => ({
  name: `listed-in-package-json of ${name}`,
  severity: 'error',
  from: { path: `^${folder}/`, pathNot: [tests, '^plugins/cqrs/conformance.ts$'] },
  to: { path: inWorkspaces, pathNot: workspaces.filter(other => other.folder === folder || other.name in dependencies).map(other => `^${other.folder}/`) }
}))

module.exports = {
  forbidden: [
    { name: 'no-circular', comment: 'Types may name each other: what runs may not', severity: 'error', from: {}, to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } } },
    { name: 'no-unresolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
    { name: 'modules-know-the-contract-only', comment: 'A domain has no I/O of its own', severity: 'error', from: { path: '^modules/' }, to: { pathNot: ['^modules/', '^plugins/cqrs/', '^proto/', '^node_modules/(typebox|kysely|validator|tap|fast-check|@types)(/|$)', '^(node:)?(util|assert)(/|$)'] } },
    { name: 'a-domain-knows-of-another-what-it-shares', comment: 'And in one direction only: no-circular', severity: 'error', from: { path: '^modules/([^/]+)/', pathNot: tests }, to: { path: '^modules/([^/]+)/', pathNot: ['^modules/$1/', '^modules/[^/]+/shared.ts$'] } },
    { name: 'the-contract-has-no-io', severity: 'error', from: { path: '^plugins/cqrs/', pathNot: tests }, to: { pathNot: ['^plugins/cqrs/', '^node_modules/(typebox|kysely|ajv|ajv-formats|@fastify/error|tap)(/|$)', '^(node:)?(util|assert|crypto)(/|$)'] } },
    { name: 'plugins-know-no-domain', severity: 'error', from: { path: '^plugins/', pathNot: tests }, to: { path: '^(apps|modules|stack|tools|test|benchmarks)/' } },
    { name: 'nobody-knows-an-app', severity: 'error', from: { pathNot: ['^(apps|test|benchmarks)/', tests] }, to: { path: '^apps/' } },
    { name: 'apps-only-register', severity: 'error', from: { path: '^apps/' }, to: { path: ['^node_modules/(?!fastify/|typebox/|tap/)', '^(stack|tools|test|benchmarks)/'], pathNot: '^node_modules/@types' } },
    { name: 'through-the-package', comment: 'Another workspace is reached by its package name, and so through its exports', severity: 'error', from: { path: '^(apps/[^/]+|plugins/[^/]+|modules|proto|stack|tools|test|benchmarks)/' }, to: { path: inWorkspaces, pathNot: '^$1/', dependencyTypes: ['local'] } },
    { name: 'listed-in-package-json', severity: 'error', from: { path: inWorkspaces, pathNot: [tests, '^test/', '^plugins/cqrs/conformance.ts$', '^proto/gen/'] }, to: { dependencyTypes: ['npm-no-pkg', 'npm-unknown', 'npm-dev'] } },
    ...listed
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
