/** The cookie of `sticky` where a config gives it no name. Apart from the schema, whose library no worker should hold. */
export const STICKY_COOKIE = 'holdfast'
