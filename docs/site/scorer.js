/* The scores of the site's search, Sphinx' own, but that the history and the reasons come after the manual. */
var Scorer = {
  score: ([page, , , , score]) =>
    score - (/^(changelog|contributing|measurements|design|bench)/.test(page) ? 20 : /^add-a/.test(page) ? 3 : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};

/* Sphinx finds the pages that have all words of a question. Here a page counts by the words that it has, a rare word more
   than a common one, and a section whose heading has most of them comes before its page. */
if (typeof Search !== "undefined") {
  const withAll = Search.performTermsSearch;
  Search.performTermsSearch = (words, excluded) => {
    const { docnames, titles, filenames, alltitles } = Search._index;
    const stemmer = new Stemmer();
    const stems = (text) => text.toLowerCase().split(/\W+/).map((word) => stemmer.stemWord(word));
    const weights = new Map(); // of the words that are somewhere
    const pages = new Map(); // by name: a hit, and the weights of its words
    const count = (word) => {
      const hits = withAll(new Set([word]), excluded);
      if (!hits.length) return;
      const weight = Math.log(1 + docnames.length / hits.length);
      weights.set(word, weight);
      for (const hit of hits) {
        const page = pages.get(hit[0]) ?? { hit, part: 0, score: 0 };
        page.part += weight;
        page.score += weight * hit[4];
        pages.set(hit[0], page);
      }
    };
    for (const word of words) {
      count(word);
      if (!weights.has(word) && word.includes("_")) word.split("_").map((part) => stemmer.stemWord(part)).forEach(count);
    }
    const total = [...weights.values()].reduce((sum, weight) => sum + weight, 0);
    const found = [];
    for (const { hit, part, score } of pages.values())
      if (part > 0.4 * total) found.push([...hit.slice(0, 4), score / total, ...hit.slice(5)]);
    for (const [title, places] of Object.entries(alltitles)) {
      const own = stems(title).filter((word) => word && !stopwords.has(word));
      const same = [...new Set(own)].filter((word) => weights.has(word));
      const part = same.reduce((sum, word) => sum + weights.get(word), 0) / total;
      if (!(part >= 0.5)) continue;
      for (const [file, id] of places) {
        const page = pages.get(docnames[file]);
        if (id === null || titles[file] === title || !page) continue;
        const score = page.score / total + (2 * part * same.length) / own.length;
        found.push([docnames[file], `${titles[file]} > ${title}`, `#${id}`, null, score, filenames[file], SearchResultKind.title]);
      }
    }
    return found;
  };
}
