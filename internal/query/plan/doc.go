// Package plan decides from which resolution each selector of a PromQL query is
// answered.
//
// In: an expression as promql.PreprocessExpr leaves it, the times it is evaluated
// at, and what each tier holds. Out: for every selector, the very times at which
// the engine will ask for it ([Find]), and the stretches of time to read from raw
// samples and from rollups ([Choose]). It is pure: no I/O, no clock.
//
//	Find    expression, times  -> selectors, each with its grid
//	Choose  selector, holdings -> spans, and the range of each part of the grid
//	Replace selector           -> the expression, with a selector in the call's place
//
// Expressions are borrowed and, by Replace, changed. The query room imports it.
package plan
