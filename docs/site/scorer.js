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
