// Package packtest makes spans for the tests of pack and index: a shop's traces, on
// which bytes and time are measured, and spans of every shape that there is.
//
// In:   a source of chance, so that a failure can be had again.
// Out:  batches with memory of their own.
//
// Only tests may import it.
package packtest
