/** Brings up the tests' own stack: in its own folder and on free ports, whatever else runs on this machine. */
import { up } from '@bifold/stack'

await up({ dir: '.stack-test', ports: 'free', brokers: 1, renderer: 'simple', environment: {} })
