/** The words of a text in any script, and the one form of each, in which case, accents and ways to write a letter do not count. */

/** A word, with its parts where a sign joins several; or a run of a script that puts no spaces between words. */
export type Piece = { readonly unspaced: false, readonly parts: readonly string[] } | { readonly unspaced: true, readonly characters: readonly string[] }

// Letters that Unicode does not take apart, and that are written one for the other.
const spelled: Readonly<Record<string, string>> = {
  ß: 'ss',
  æ: 'ae',
  œ: 'oe',
  ø: 'o',
  ł: 'l',
  đ: 'd',
  ð: 'd',
  þ: 'th',
  ħ: 'h',
  ı: 'i',
  ς: 'σ',
  // Arabic, Persian and Urdu: alef wasla; alef maksura and the yehs; the kafs; teh marbuta and the hehs.
  ٱ: 'ا',
  ى: 'ي',
  ی: 'ي',
  ے: 'ي',
  ک: 'ك',
  ة: 'ه',
  ە: 'ه',
  ہ: 'ه',
  ھ: 'ه'
}
const spelling = new RegExp(`[${Object.keys(spelled).join('')}]`, 'gu')

// Accents, and the vowel points of Arabic, Hebrew and Syriac with the tatweel. Not the vowels of Indian scripts, which are marks
// too, nor the dakuten of Japanese, which make another letter.
const accents = /[[[\p{M}&&\p{Script=Inherited}]--[\u3099\u309a]][\p{Mn}&&[\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Syriac}]]\u0640]/gv

/** @example folded('Éléonore') // 'eleonore' */
export function folded (text: string): string {
  if (/^\p{ASCII}*$/u.test(text)) return text.toLowerCase() // most texts are: a third of the time
  // Composed again, so that a syllable of Hangul is one character.
  return text.normalize('NFKD').replaceAll(accents, '').toLowerCase().normalize('NFC').replaceAll(spelling, letter => spelled[letter]!)
}

const word = /[\p{L}\p{N}\p{M}]+(?:['’ʼ\u200c.\-‐][\p{L}\p{N}\p{M}]+)*/gu // apostrophes, the zero width non-joiner of Persian, full stop and hyphens
const sign = /['’ʼ\u200c.\-‐]/u
const unspaced = /[\p{scx=Han}\p{scx=Hira}\p{scx=Kana}\p{scx=Hang}\p{scx=Thai}\p{scx=Lao}\p{scx=Khmr}\p{scx=Mymr}]+/gu

const initials = /(?<=(?<![\p{L}\p{N}\p{M}])\p{L}\.)\s+(?=\p{L}\.)/gu // the space in `J. K. Rowling`

/** The pieces of a folded text, in its order. */
export function pieces (text: string): Piece[] {
  const together = text.includes('. ') ? text.replaceAll(initials, '') : text
  return [...together.matchAll(word)].flatMap(([whole]): Piece[] => {
    if (/^\p{ASCII}*$/u.test(whole)) return [{ unspaced: false, parts: whole.split(sign) }]
    const found: Piece[] = []
    let from = 0
    const spaced = (part: string) => {
      const parts = part.split(sign).filter(part => part !== '')
      if (parts.length > 0) found.push({ unspaced: false, parts })
    }
    for (const run of whole.matchAll(unspaced)) {
      spaced(whole.slice(from, run.index))
      found.push({ unspaced: true, characters: [...run[0]] })
      from = run.index + run[0].length
    }
    spaced(whole.slice(from))
    return found
  })
}

/** A word without the signs in it. */
export const joined = ({ parts }: { readonly parts: readonly string[] }): string => parts.join('')
