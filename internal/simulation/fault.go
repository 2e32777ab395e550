package simulation

import (
	"bytes"
	"slices"

	"dems"
	"dems/fsm"
)

// faultKind is a way to be wrong that lasts. A wrong state is none: it is altered once.
type faultKind uint8

const (
	noFault      faultKind = iota
	wrongResults           // its votes and its answers to reads are wrong, as in drills
	wrongVotes             // it votes for other results than it hands out
	wrongStates            // it votes for another state than it has
	wrongReads             // only its answers to reads are wrong
	staleReads             // it answers reads with what was so once
	falseWitness           // what it says of the cluster's members is wrong
	mute                   // it answers nothing
	faultKinds
)

var faultNames = [faultKinds]string{
	"none", "wrong results", "wrong votes", "wrong states", "wrong reads", "stale reads", "false witness", "mute",
}

func (k faultKind) String() string { return faultNames[k] }

// convicts tells whether a fault that lasts has to lead to a conviction: votes show it, and votes are on record.
func (k faultKind) convicts() bool { return k == wrongResults || k == wrongVotes || k == wrongStates }

// fault is how a node is wrong. It ends with the process.
type fault struct {
	kind faultKind
	left int          // requests that it still spoils; negative: no limit
	old  *fsm.Machine // staleReads only
}

// take uses the fault up by as many requests as are left of those that are there.
func (f *fault) take(wanted int) int {
	if f.left >= 0 {
		wanted = min(wanted, f.left)
		f.left -= wanted
	}
	return wanted
}

// wrongCodes are what nodes answer instead of what is right, each another one: faults are independent.
var wrongCodes = [...]dems.Code{dems.EventFull, dems.EventNotFound, dems.MonthlyLimit, dems.NotBooked, dems.AlreadyBooked}

// wrongResult returns what a node answers instead of a right result.
func wrongResult(right *dems.Result, number int) dems.Result {
	code := wrongCodes[number]
	if right.Code == code {
		code = dems.SameEvent
	}
	return dems.Result{Code: code, Sequence: right.Sequence}
}

// spoil makes a ballot wrong.
func (f *fault) spoil(n *node, commands int, b *ballot) {
	switch f.kind {
	case wrongResults:
		results, err := dems.DecodeResults(b.results)
		count := f.take(min(commands, len(results)))
		if err != nil || count == 0 {
			return
		}
		for i := range count {
			results[i] = wrongResult(&results[i], n.number)
		}
		b.results = dems.AppendResults(nil, results)
		b.vote.Results = dems.DigestOf(b.results)
	case wrongVotes:
		if f.take(1) > 0 {
			b.vote.Results[n.number] ^= 0x5a
		}
	case wrongStates:
		if f.take(1) > 0 {
			b.vote.State[n.number] ^= 0x5a
		}
	}
}

// spoilReply makes the answer to a read wrong.
func (f *fault) spoilReply(n *node, query *dems.Query, reply *dems.QueryReply) {
	w, answer := n.world, &reply.Answers[0]
	switch f.kind {
	case wrongResults, wrongReads:
		results, err := dems.DecodeResults(answer.Result)
		if query.Kind != dems.OperationQuery || err != nil || len(results) != 1 || f.take(1) == 0 {
			return
		}
		results[0] = wrongResult(&results[0], n.number)
		answer.Result = dems.AppendResults(nil, results)
		if f.kind == wrongReads && w.chance(20) {
			answer.Version += uint64(w.random.IntN(1000))
			reply.Applied = max(reply.Applied, answer.Version)
		}
		w.deedsOf(n).reads++
	case staleReads:
		*answer = f.old.Query(query)
	}
}

// spoilStatus has a node say that all others were removed, and that it is ready for anything.
func (f *fault) spoilStatus(n *node, status *dems.NodeStatus) {
	if f.kind != falseWitness {
		return
	}
	for i := range status.Standings {
		if s := &status.Standings[i]; s.Node != n.name {
			s.Condition = dems.Expelled
			s.Incarnation++
		}
	}
	status.Members = slices.DeleteFunc(slices.Clone(status.Members), func(m dems.Member) bool { return m.ID != n.name })
	status.Configuration += 1000
	status.Term, status.Leader, status.Ready, status.Fresh = status.Term+1000, n.name, true, true
}

// spare tells whether one more node may become wrong: together with those that are, and those that are being replaced, it
// has to be a minority. A life that was wrong once counts until it ends, for its votes stay on record.
func (w *world) spare(n *node) bool {
	faulty := 1
	if w.faulty(n) {
		return false
	}
	for _, other := range w.nodes {
		if other != n && w.faulty(other) {
			faulty++
		}
	}
	return faulty <= (len(w.nodes)-1)/2
}

func (w *world) faulty(n *node) bool {
	s := w.reference.standing(n.name)
	return n.leaving || n.fault.kind != noFault || w.deedsOf(n).isWrong() || s.Condition != dems.Correct || s.Incarnation != n.incarnation
}

// infect makes a node wrong.
func (w *world) infect(n *node) {
	if !n.up || !w.spare(n) {
		return
	}
	w.outcome.Count.Faults++
	if w.chance(35) {
		w.deedsOf(n).state = true
		w.trace("%s: its state is altered: %s", n.title(), n.machine.Corrupt(w.random.Uint64()))
		return
	}
	f := fault{kind: faultKind(1 + w.random.IntN(int(faultKinds)-1)), left: -1}
	if w.chance(40) {
		f.left = 1 + w.random.IntN(5)
	}
	if f.kind == staleReads {
		var data bytes.Buffer
		if _, err := n.machine.Snapshot().WriteTo(&data); err != nil {
			w.fail("snapshot: %v", err)
			return
		}
		f.old, _ = fsm.Restore(&data, dems.DefaultCities())
		w.reference.stale++
	}
	if f.kind == staleReads || f.kind == falseWitness {
		w.deedsOf(n).lies = true
	}
	n.fault = f
	w.trace("%s is wrong from now on: %s, limit %d", n.title(), f.kind, f.left)
}

// cure ends a fault that no vote shows.
func (n *node) cure() {
	if n.fault.kind == mute {
		for _, other := range n.world.nodes {
			if other != n {
				other.manager.broken[n.number] = true
			}
		}
	}
	n.fault = fault{}
}
