package sampling

// ways is how many decisions share a place; one of them is forgotten for a new one. By
// Poisson, a table half full has forgotten 1 in 120.
const ways = 8

// decided remembers decisions in a table of fixed size. Not safe for concurrent use.
type decided struct {
	marks []uint64 // hash of the trace id; the lowest bit: dropped
	at    []uint32 // in units of the caller's, above 0
}

// find returns where the decision on a hash is, -1 if nowhere.
func (d *decided) find(hash uint64) int {
	if len(d.marks) == 0 {
		return -1
	}
	from := d.place(hash)
	for i, m := range d.marks[from : from+ways] {
		if m|1 == hash|1 {
			return from + i
		}
	}
	return -1
}

func (d *decided) place(hash uint64) int {
	return int((hash>>16)%uint64(len(d.marks)/ways)) * ways
}

func (d *decided) dropped(i int) bool { return d.marks[i]&1 != 0 }

// put remembers a decision, and tells whether one was forgotten for it, and when that
// was made if it was to keep; else 0. size is that of a table not made yet.
func (d *decided) put(hash uint64, dropped bool, at uint32, size int) (forgot bool, kept uint32) {
	if d.marks == nil {
		size = max(size/ways, 1) * ways
		d.marks, d.at = make([]uint64, size), make([]uint32, size)
	}
	mark := hash &^ 1
	if dropped {
		mark |= 1
	}
	if i := d.find(hash); i >= 0 {
		d.marks[i], d.at[i] = mark, at
		return false, 0
	}
	from := d.place(hash)
	marks, times := d.marks[from:from+ways], d.at[from:from+ways]
	out := victim(marks)
	if forgot = times[out] != 0; forgot && marks[out]&1 == 0 {
		kept = times[out]
	}
	copy(marks[1:out+1], marks[:out])
	copy(times[1:out+1], times[:out])
	marks[0], times[0] = mark, at
	return forgot, kept
}

// victim is the oldest, or the oldest to drop while half are: to forget those to keep
// costs a look into the store, and there are fewer of them.
func victim(marks []uint64) int {
	drops, oldest := 0, ways-1
	if marks[ways-1] == 0 { // not full
		return ways - 1
	}
	for i, m := range marks {
		if m&1 != 0 {
			drops, oldest = drops+1, i
		}
	}
	if drops >= ways/2 {
		return oldest
	}
	return ways - 1
}
