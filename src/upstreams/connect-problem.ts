/** Why an upstream cannot be connected to, for people: with the key of the config that mends it, where there is one. */
import { distrustOf, messageOf } from '../errors.ts'

export function connectProblem(error: unknown): string {
  const distrust = distrustOf(error)
  return distrust === undefined
    ? messageOf(error)
    : `${distrust}: set \`upstreamTls.roots\` to a PEM file with the root that it chains to`
}
