/** All who watch one read model: each is brought to where the others are, and then told with them. */
import type { Db } from 'mongodb'
import { makeFeed, type Follower } from './feed.ts'
import { makeGroup, type Group, type Member, type Subject } from './group.ts'

export interface Hub {
  readonly db: Db
  readonly collection: string
  readonly feed: ReturnType<typeof makeFeed>
  /** Makes one of those who are told; `restart` is called when all has to be told anew, `broken` when nothing more comes. Gives the function that ends it. */
  enter (subject: Subject, member: Member & Pick<Follower, 'broken'> & { restart (): void }): () => void
  close (): Promise<void>
}

export const silenceMs = 10_000 // then a message says that nothing has happened, and from where to go on
const paceMs = { least: 10, most: 100, perWatcher: 0.1 } // between two messages: a thousand watchers are told ten times a second, a few as soon as can be

type Inside = Parameters<Hub['enter']>[1]

export function makeHub (db: Db, collection: string, watching: () => number): Hub {
  const feed = makeFeed(db, collection)
  const groups = new Map<string, Group>()
  let unfollow: (() => void) | undefined
  let timer: NodeJS.Timeout | undefined

  const everybody = () => [...groups.values()].flatMap(({ members }) => [...members] as Inside[])
  const flush = () => {
    for (const group of groups.values()) group.flush({ after: feed.position }, silenceMs)
    clearTimeout(timer)
    if (unfollow === undefined) return // the last has left on the way: it was too slow
    timer = setTimeout(flush, Math.max(paceMs.least, Math.min(paceMs.most, watching() * paceMs.perWatcher)))
  }
  const follower: Follower = {
    step (step, before) {
      if (step.id !== undefined) for (const group of groups.values()) group.add(step, before)
      else for (const member of everybody()) member.restart()
    },
    moved () {},
    broken (error) {
      unfollow = undefined
      clearTimeout(timer)
      for (const member of everybody()) member.broken(error)
    }
  }
  const leave = (subject: Subject, member: Inside) => {
    const group = groups.get(subject.group)
    group?.members.delete(member)
    if (group?.members.size === 0) groups.delete(subject.group)
    if (groups.size > 0) return
    unfollow?.()
    unfollow = undefined
    clearTimeout(timer)
  }
  return {
    db,
    collection,
    feed,
    enter (subject, member) {
      let group = groups.get(subject.group)
      // The others hear first of what the new one has been told already.
      if (group === undefined) groups.set(subject.group, group = makeGroup(subject))
      else group.flush({ after: feed.position }, silenceMs)
      group.members.add(member)
      if (unfollow === undefined) {
        unfollow = feed.join(follower)
        flush()
      }
      return () => leave(subject, member)
    },
    async close () {
      unfollow = undefined
      clearTimeout(timer)
      await feed.close()
    }
  }
}
