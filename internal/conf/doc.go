// Package conf turns one YAML file into the configuration structs of the rooms.
//
// In: a file or a reader, and a pointer to a struct that already holds its
// defaults. Out: the same struct, changed where the file says so, or one error
// that lists every fault with its path, the value got, the values wanted and the
// line. Reading is strict: a key nobody declared is a fault, so is a key given
// twice, so is a value of another type.
//
// A room declares its settings as a struct named Config whose fields are tagged
// with their YAML key, gives its defaults in DefaultConfig and its bounds in
// Validate, which is pure. Lengths of time are [Duration], sizes are [Bytes],
// what must not be printed is [Secret].
//
// Lists and maps in the file replace the default; sections (structs) are merged
// into it key by key. A section left empty keeps its defaults.
//
// Every package of the module may import conf; conf imports none of them. Decode
// keeps no reference to what it has read.
package conf
