// Package storetest is the contract of a store of samples, as tests: what is
// committed is found again, bit-exact and once, also after reopening.
//
// In: a function that opens a store on a directory. Out: the verdict of the testing
// package; and small disks for a store to fill. Tests of internal/store and below it
// import it, and of every later store that takes samples by [storage.AppenderV2] and
// serves queries.
package storetest
