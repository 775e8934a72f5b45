/** Keeps a warning about kafkajs 2 on Node 24, a timer that it sets for the past, off the terminal; it says nothing to a user. */
export function quietKafkajs (): void {
  const [print] = process.listeners('warning')
  process.removeAllListeners('warning')
  process.on('warning', warning => {
    if (warning.name !== 'TimeoutNegativeWarning') print?.(warning)
  })
}
