/** The part of pg that turns values into what is sent, which its types leave out. */
declare module 'pg/lib/utils.js' {
  const utils: { prepareValue (value: unknown): unknown }
  export default utils
}
