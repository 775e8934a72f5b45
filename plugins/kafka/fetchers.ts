/**
 * A consumer of kafkajs that is stopped in the moment in which it hears of other brokers begins to fetch from those all the same. As
 * it is stopped, each fetch gives nothing at once; so it asks on and on, and the process does nothing else any more, for ever.
 */

interface FetchManager { start (): Promise<void>, stop (): Promise<void> }

interface Options { readonly fetch: (nodeId: number) => Promise<unknown[]> }

type MakeFetchManager<O extends Options = Options> = (options: O) => FetchManager

/** Wraps what makes the fetchers of a consumer, which is stopped once, for good: who asks after that is refused, and the consumer ends. */
export const stoppingForGood = <O extends Options>(make: MakeFetchManager<O>): MakeFetchManager<O> => options => {
  let stopped = false
  const fetch: Options['fetch'] = async nodeId => {
    if (stopped) throw new Error('the consumer was stopped')
    return await options.fetch(nodeId)
  }
  const manager = make({ ...options, fetch })
  return {
    ...manager,
    async stop () {
      stopped = true
      await manager.stop()
    }
  }
}
