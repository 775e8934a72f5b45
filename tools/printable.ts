/** What stands in a file or a message must not steer the terminal. */

/** The text with its control characters replaced. */
export const printable = (text: string): string => text.replaceAll(/\p{Cc}/gu, '\ufffd')
