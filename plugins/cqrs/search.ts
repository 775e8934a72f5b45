/** Full text search in any script: the terms of a text, which a read model keeps with an index, and what a query asks of them. */
import { folded, joined, pieces, type Piece } from './words.ts'
import type { Format } from './module.ts'
import type { Where } from './filter.ts'

/** What a document keeps to be found: the terms of its head, such as a title, and behind them those of the rest. An index on `terms` finds them. */
export interface Searchable { readonly terms: readonly string[], readonly heads: number }

/** What a query asks: which documents match, and how well, as an expression of MongoDB's that gives an integer. */
export interface Search { readonly where: Where, readonly score: Readonly<Record<string, unknown>> }

const termsMax = 1000 // of a document: the longest title and a hundred names; each is an entry in the index
const askedMax = 32 // terms of a query: more find no better, and each is compared with each document that has the others

/**
 * The terms of a document.
 *
 * A word is a term, in lower case and without accents. A word with signs in it is one with each of its parts, and one without the
 * signs: `Ender's` is found as `ender's`, `enders` and `ender`. Scripts without spaces are cut into pairs of neighbours.
 *
 * @example
 * searchable('Norwegian Wood', ['村上 春樹']) // { terms: ['norwegian', 'wood', '村上', '上', '上春', '春樹', '樹'], heads: 2 }
 */
export function searchable (head: string, rest: readonly string[]): Searchable {
  const terms = new Set(termsOf(head))
  const heads = Math.min(terms.size, termsMax)
  for (const text of rest) for (const term of termsOf(text)) terms.add(term)
  return { terms: [...terms].slice(0, termsMax), heads }
}

const termsOf = (text: string): string[] => pieces(folded(text)).flatMap((piece, at, all) => {
  if (!piece.unspaced) return piece.parts.length === 1 ? piece.parts : [...piece.parts.filter(part => !isLetter(part)), joined(piece)]
  // The last of a run is alone, so that each character begins a term; and a space between two runs may be left out.
  const pairs = piece.characters.map((character, at) => character + (piece.characters[at + 1] ?? ''))
  const next = all[at + 1]
  return next?.unspaced === true ? [...pairs, piece.characters.at(-1)! + next.characters[0]!] : pairs
})

/** A query has a word at least. */
export const searchQuery: Format = { validate: query => asked(query).length > 0, message: 'must have a letter or a digit to search for' }

/**
 * What a query asks: documents that have all of its terms, the last of which may be the beginning of one unless a space follows.
 *
 * A term in the head counts more than one in the rest, one that is whole more than the beginning of one, and what is asked for
 * counts more where there is little else.
 *
 * @example
 * const { where, score } = searchFor('good om')
 */
export function searchFor (query: string): Search {
  const terms = asked(query)
  return {
    where: { $and: terms.map(({ term, begins }) => ({ terms: begins ? { $regex: `^${term}` } : { $eq: term } })) }, // letters, digits and marks only: nothing that a pattern would read otherwise
    score: scoreOf(terms)
  }
}

interface Asked { readonly term: string, readonly begins: boolean }

function asked (query: string): Asked[] {
  const text = folded(query)
  const open = /[\p{L}\p{N}\p{M}]$/u.test(text)
  const found = pieces(text)
  const terms = found.flatMap((piece, at) => termsAsked(piece, open && at === found.length - 1))
  // One letter says next to nothing beside a word, and nobody knows whether there is a full stop behind it.
  const words = terms.filter(({ term }) => !isLetter(term))
  const unique = new Map((words.length === 0 ? terms : words).map(one => [one.term, one]))
  return [...unique.values()].slice(0, askedMax)
}

function termsAsked (piece: Piece, open: boolean): Asked[] {
  if (!piece.unspaced) {
    const parts = piece.parts.every(isLetter) ? [joined(piece)] : piece.parts // initials are one term
    return parts.map((term, at) => ({ term, begins: open && at === parts.length - 1 }))
  }
  const { characters } = piece
  if (characters.length === 1) return [{ term: characters[0]!, begins: true }]
  return characters.slice(1).map((character, at) => ({ term: characters[at]! + character, begins: false }))
}

const isLetter = (term: string): boolean => /^[\p{L}--[\p{scx=Han}\p{scx=Hira}\p{scx=Kana}\p{scx=Hang}]]$/v.test(term)

// Weights of a term, by where it is, and what is added for the share of the head and of the rest that was asked for.
const weights = { head: 3000, rest: 2000, begun: 1000, headShare: 900, restShare: 500 }

function scoreOf (terms: readonly Asked[]) {
  const places = terms.map(({ term }) => ({ $indexOfArray: ['$terms', term] }))
  const count = (input: unknown, cond: unknown) => ({ $size: { $filter: { input, cond } } })
  const share = (part: unknown, whole: unknown, weight: number) => ({ $cond: [{ $gt: [whole, 0] }, { $multiply: [weight, { $divide: [part, whole] }] }, 0] })
  return {
    $let: {
      vars: { places, rest: { $subtract: [{ $size: '$terms' }, '$heads'] } },
      in: {
        $let: {
          vars: {
            inHead: count('$$places', { $and: [{ $gte: ['$$this', 0] }, { $lt: ['$$this', '$heads'] }] }),
            inRest: count('$$places', { $gte: ['$$this', '$heads'] }),
            begun: count('$$places', { $lt: ['$$this', 0] })
          },
          in: {
            $toInt: {
              $add: [
                { $multiply: ['$$inHead', weights.head] }, { $multiply: ['$$inRest', weights.rest] }, { $multiply: ['$$begun', weights.begun] },
                share('$$inHead', '$heads', weights.headShare), share('$$inRest', '$$rest', weights.restShare)
              ]
            }
          }
        }
      }
    }
  }
}
