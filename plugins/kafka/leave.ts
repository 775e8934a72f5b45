/**
 * Leaves a group for a member that has ended without saying so, as when Kafka was away: the group would wait for it for a whole
 * session before anybody reads on. kafkajs knows the request, but makes it for its own living consumers only.
 */
import type { Admin, Kafka } from 'kafkajs'

/** A consumer in its group, by Kafka's names for them. */
export interface Member { readonly groupId: string, readonly memberId: string }

interface Cluster { findGroupCoordinator (group: { readonly groupId: string }): Promise<{ leaveGroup (member: Member): Promise<unknown> }> }

interface WithLeave { leaveGroup (member: Member): Promise<void> }

type MakeAdmin<O> = (options: O) => object

/** Wraps what kafkajs makes an admin client with. */
export const leaving = <O extends { readonly cluster: Cluster }>(make: MakeAdmin<O>): MakeAdmin<O> => options => Object.assign(make(options), {
  async leaveGroup (member) {
    const coordinator = await options.cluster.findGroupCoordinator(member)
    await coordinator.leaveGroup(member).catch((error: { type?: string }) => { if (error.type !== 'UNKNOWN_MEMBER_ID') throw error }) // it has left
  }
} satisfies WithLeave)

/** @throws if Kafka does not answer, or not yet */
export async function leave (kafka: Kafka, members: Iterable<Member>): Promise<void> {
  const admin = kafka.admin({ retry: { retries: 0 } }) as Admin & WithLeave // the caller tries again
  try {
    await admin.connect()
    for (const member of members) await admin.leaveGroup(member)
  } finally {
    await admin.disconnect()
  }
}
