// Package sampling decides which traces stay. Head sampling tells SDKs how much to send;
// tail sampling decides on what came, when the trace is seen whole.
//
//	root spans ─Observe─> rates ─Adjust─> probabilities ─> /sampling, gRPC ─> SDKs
//
//	spans ─Take─> aggregate of the trace ─(decision_wait)─> policies ─┬─ keep
//	          │                                                       └─ drop ─(settle)─> Drop
//	          └─ decided before? ─> the decision is followed
//
// In:   batches, borrowed until Observe and Take return; nothing of their memory is kept.
// Out:  strategies; ids of traces that the store is to forget; for late spans, whether
// they are wanted.
// Owns: in memory, what it knows of pending traces, decisions and rates. Nothing is on
// disk: after a restart probabilities are learnt anew, and pending traces are kept.
//
// # The same decision on every replica
//
// Spans are stored at once, and a trace is decided decision_wait after its first span
// here. What policies look at (the longest span, an error, attributes) does not depend
// on the order of spans, and chance is a hash of the trace id (see [Chance]). So two
// replicas that were given the same spans within the wait decide alike, without a word
// between them. Three things are not so:
//   - spans_per_second needs a rate, and each replica sees its own. It is a threshold on
//     the same hash, adapted to the traffic, so of two replicas one keeps a part of what
//     the other keeps;
//   - exemplars pin traces on the replica that wrote them;
//   - a trace that must leave early for want of room (max_traces) is decided by what came.
//
// # Late spans
//
// Decisions are remembered (remembered_decisions), and spans that come after them follow
// them. A trace that may have been kept by a decision since forgotten, or before a
// restart, is not dropped while the store has more of it than came since. It is in such
// doubt if it has a span older than the newest forgotten decision (or the process), or
// if its root is not among what came and such a decision was made within the hour. So
// after forgetting chance decides as before, and nothing kept is lost. The store is asked
// for a bounded time; what is still in doubt is kept, by policy "uncertain" in metrics:
// if there is much of it, remember more decisions.
//
// # Exemplars
//
// A trace that Pinned names is kept. It is asked after the decision is visible through
// [Sampling.Unwanted], so who writes exemplars pins first and then asks Unwanted, and
// leaves the exemplar out if it is: whichever comes first, no exemplar leads nowhere.
//
// # Derived metrics
//
// They are made of spans before tail sampling, those not stored among them, so tail
// sampling does not touch them. Head sampling does: of what an SDK did not send nothing
// is known. [Sampling.Weight] is how many traces one stands for.
//
// The room and package main may import it.
package sampling
