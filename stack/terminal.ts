/** Whether a terminal is there, whose Ctrl-C goes to every process of the session. */

/**
 * True if what is started needs a session of its own, for Ctrl-C not to reach it.
 *
 * Where there is no terminal it should have none: Linux shares the cores among sessions (sched_autogroup), and one with many threads,
 * such as Kafka's, was seen to get nothing for half a minute while the others were busy (6.18, two cores).
 */
export const atTerminal = (): boolean => [process.stdin, process.stdout, process.stderr].some(({ isTTY }) => isTTY)
