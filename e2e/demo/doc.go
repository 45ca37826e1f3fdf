// Command demo shows Weir at work: it runs the programs of package e2e, prints
// queries that it has tried itself, waits for Ctrl-C, ends all programs and
// removes what they wrote.
package main
