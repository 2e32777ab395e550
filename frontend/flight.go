package frontend

import (
	"slices"
	"sync"
	"time"

	"dems"
	"dems/frontend/voting"
)

const (
	// patience is how long a batch waits for votes before it asks the silent nodes and looks for another leader.
	patience = 50 * time.Millisecond
	// doubt is how long a leader's answer, and after it the votes of a majority, may take before somebody is asked again,
	// the first time, or, where the vote is split, before the results that are missing are done without.
	doubt = time.Second
	// checkTimeout bounds a batch that was answered before a majority was known, and is only being checked.
	checkTimeout = 15 * time.Second
	// askPause is the least time between two questions for a node's results of one batch.
	askPause = 20 * time.Millisecond
	// askTimeout bounds one question for a node's results.
	askTimeout = time.Second
)

// flight is one batch: in flight its commands and the nodes' votes, afterwards what was decided, so that votes that come
// later are judged, too.
type flight struct {
	session, number uint64
	waiters         []*pending    // nil once it has landed
	probing         *node         // on whose wrong answer the batch is to give evidence; nil: the batch is of clients
	wake            chan struct{} // told that a vote came; holds one
	kept            int           // bytes counted by the archive

	mu       sync.Mutex
	box      voting.Box
	decision *voting.Decision // nil while there is none
	commands int              // of the batch as it was decided
	judged   []judged         // who has been compared with the decision
}

// judged is one life of a node whose vote has been judged.
type judged struct {
	node        dems.NodeID
	incarnation uint64
}

func newFlight(session, number uint64, waiters []*pending) *flight {
	f := &flight{session: session, number: number, waiters: waiters, wake: make(chan struct{}, 1)}
	if len(waiters) > 0 {
		f.probing = waiters[0].probing
	}
	return f
}

// cast puts a node's ballot into the box. False where the vote is decided and the ballot can only be judged.
func (f *flight) cast(ballot voting.Ballot) bool {
	f.mu.Lock()
	if f.decision != nil {
		f.mu.Unlock()
		return false
	}
	f.box.Cast(ballot)
	f.mu.Unlock()
	f.signal()
	return true
}

// firstResults returns the results that came first, or nil.
func (f *flight) firstResults() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.box.First()
}

// signal wakes the flight's goroutine.
func (f *flight) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// silent returns the voters that have not voted.
func (f *flight) silent(v *view) []*node {
	f.mu.Lock()
	defer f.mu.Unlock()
	return v.named(f.box.Silent(v.electors))
}

// tally counts the votes of the voters.
func (f *flight) tally(v *view) voting.Count {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.box.Tally(v.electors)
}

// decide ends the vote with the results of a majority. It returns the ballots, which have still to be judged.
func (f *flight) decide(v *view, counted *voting.Count, commands int) []voting.Ballot {
	f.mu.Lock()
	defer f.mu.Unlock()
	decision := f.box.Decide(v.electors, counted)
	return f.settle(&decision, commands)
}

// decideEach ends a split vote command by command, as the batch of one of several sizes that it may have, the first one for
// which anything can be decided.
func (f *flight) decideEach(v *view, sizes []int) []voting.Ballot {
	f.mu.Lock()
	defer f.mu.Unlock()
	var decision voting.Decision
	for _, commands := range sizes {
		decision = f.box.DecideEach(v.electors, commands)
		if decision.Decided() {
			break
		}
	}
	return f.settle(&decision, len(decision.Each))
}

// settle makes the decision known. Callers hold mu.
func (f *flight) settle(decision *voting.Decision, commands int) []voting.Ballot {
	f.decision, f.commands = decision, commands
	ballots := f.box.Ballots()
	f.judged = make([]judged, 0, len(ballots)+1)
	f.box = voting.Box{}
	return ballots
}

// judge compares a ballot with the decision, once for each life of a node: afterwards it is Unrelated.
func (f *flight) judge(ballot *voting.Ballot) voting.Finding {
	f.mu.Lock()
	defer f.mu.Unlock()
	life := judged{ballot.Node, ballot.Incarnation}
	if f.decision == nil || slices.Contains(f.judged, life) {
		return voting.Unrelated
	}
	finding := f.decision.Judge(ballot)
	if finding != voting.Unrelated {
		f.judged = append(f.judged, life)
	}
	return finding
}

// weight returns how many bytes are kept for the judgement of late votes.
func (f *flight) weight() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.decision == nil {
		return 0
	}
	return len(f.decision.Bytes)
}
