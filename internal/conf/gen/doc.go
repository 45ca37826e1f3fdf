// Package gen lists the settings of a configuration struct with their comments,
// for the pages and schemas that are generated from it.
//
// In: the defaults (by reflection: keys, types, values) and the Go source of the
// packages that declare the structs (comments, which reflection does not see).
// Out: one Setting a field, in order, and renderings of that list. A field whose
// comment is missing, or does not say whether a change needs a restart, is an
// error.
//
// Only tests and generators import gen; the binary does not. Rendering knows
// nothing of the walk, so that a second one needs no second walk.
package gen
