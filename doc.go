// Package weir holds no code: it is the root of the module, where arch_test.go
// keeps the rules that hold for every folder below.
//
// Nothing goes in or out and nobody imports it. The program is cmd/weir.
package weir
