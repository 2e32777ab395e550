package simulation

import (
	"slices"
	"time"

	"dems"
)

// raftLog is Raft, as far as it matters here: one log, of which every committed entry stays, and a leader that may change.
type raftLog struct {
	entries       []entry // entry i has index i+1; all are committed
	configuration uint64  // index of the newest configuration
	leader        *node   // nil while there is none
	term          uint64
	pending       []pending // what a leader without a quorum has taken: it is committed later, or lost
	leaderless    time.Duration
}

// entry is an entry of the log.
type entry struct {
	data    []byte        // nil of a configuration, and of what Raft keeps to itself
	members []dems.Member // of a configuration
}

// pending is a proposal that is not committed yet.
type pending struct {
	entry entry
	guard uint64 // of a configuration: the one that it has to follow on
	done  func(index uint64, committed bool)
}

func (w *world) last() uint64 { return uint64(len(w.log.entries)) }

// members returns the newest configuration.
func (w *world) members() []dems.Member { return w.log.entries[w.log.configuration-1].members }

func memberOf(members []dems.Member, id dems.NodeID, incarnation uint64) (dems.Member, bool) {
	at := slices.IndexFunc(members, func(m dems.Member) bool { return m.ID == id && m.Incarnation == incarnation })
	if at < 0 {
		return dems.Member{}, false
	}
	return members[at], true
}

func isVoter(members []dems.Member, id dems.NodeID, incarnation uint64) bool {
	member, found := memberOf(members, id, incarnation)
	return found && member.Suffrage == dems.Voter
}

// electorate returns the voters of the newest configuration, and those of them that a node reaches, itself included.
func (w *world) electorate(n *node) (voters int, reached []*node) {
	for _, member := range w.members() {
		if member.Suffrage != dems.Voter {
			continue
		}
		voters++
		other := w.node(member.ID)
		if other.incarnation == member.Incarnation && other.up && !other.hangs && n.reaches(&other.party) {
			reached = append(reached, other)
		}
	}
	return voters, reached
}

// hasQuorum tells whether a node can commit, or be elected.
func (w *world) hasQuorum(n *node) bool {
	if !n.up || n.hangs || !isVoter(w.members(), n.name, n.incarnation) {
		return false
	}
	voters, reached := w.electorate(n)
	return len(reached) > voters/2
}

// append commits an entry. It is on the disks of a majority at once, and the others get it later.
func (w *world) append(e entry) uint64 {
	w.log.entries = append(w.log.entries, e)
	index := w.last()
	if e.members != nil {
		w.log.configuration = index
	}
	w.refer(index, &e)
	if leader := w.log.leader; leader != nil {
		voters, reached := w.electorate(leader)
		others := slices.DeleteFunc(reached, func(n *node) bool { return n == leader })
		w.random.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
		leader.store(index)
		for i, n := range others {
			if i < voters/2 || w.chance(80) {
				n.store(index)
			}
		}
	}
	for _, n := range w.nodes {
		n.follow(w.delay())
	}
	return index
}

// propose has the leader take an entry. Done is called when it is committed, with its index, or known to be lost.
func (w *world) propose(leader *node, p pending) {
	switch {
	case w.log.leader == leader && w.hasQuorum(leader) && len(w.log.pending) == 0:
		w.commit(p)
	case w.log.leader == leader:
		w.log.pending = append(w.log.pending, p)
	case !leader.leads:
		p.done(0, false)
	} // one that leads no more and does not know it waits for a majority that never comes
}

func (w *world) commit(p pending) {
	if p.entry.members != nil && p.guard != w.log.configuration {
		w.trace("a configuration change for %d comes too late, %d is the newest", p.guard, w.log.configuration)
		p.done(0, false)
		return
	}
	p.done(w.append(p.entry), true)
}

// watch has leaders give up and others elected, as Raft's timers do.
func (w *world) watch() {
	const interval = 50 * time.Millisecond
	leader := w.log.leader
	switch {
	case leader != nil && w.hasQuorum(leader):
		w.log.leaderless = 0
		for waiting := w.log.pending; len(waiting) > 0; waiting = waiting[1:] {
			w.log.pending = nil
			w.commit(waiting[0])
		}
	case w.log.leaderless < w.between(100*time.Millisecond, 400*time.Millisecond):
		w.log.leaderless += interval
	default:
		if candidates := w.candidates(nil); len(candidates) > 0 {
			w.elect(candidates[w.random.IntN(len(candidates))])
		}
	}
	for _, n := range w.nodes {
		if n.up && n.machine != nil && n.position < w.last() {
			n.follow(w.delay())
		}
	}
	w.after(interval, w.watch)
}

// candidates returns the nodes that can win an election: of those that reach a majority the ones with all that is committed.
func (w *world) candidates(without *node) []*node {
	var all []*node
	for _, n := range w.nodes {
		if n != without && n.stored == w.last() && w.hasQuorum(n) {
			all = append(all, n)
		}
	}
	return all
}

// elect makes a node the leader. What the last one has taken and not committed is committed now, or lost.
func (w *world) elect(n *node) {
	if old := w.log.leader; old != nil && old != n && old.leads {
		// It may not know for a while, and its own clock tells it.
		old.after(w.between(0, 300*time.Millisecond), func() {
			if w.log.leader != old {
				old.leads = false
			}
		})
	}
	w.log.leader, n.leads, w.log.leaderless = n, true, 0
	w.log.term++
	w.outcome.Count.Elections++
	w.trace("%s leads in term %d", n.title(), w.log.term)
	waiting := w.log.pending
	w.log.pending = nil
	keep := w.random.IntN(len(waiting) + 1)
	for i, p := range waiting {
		if i < keep {
			w.commit(p)
		} else {
			p.done(0, false)
		}
	}
	w.append(entry{}) // its first entry, which Raft keeps to itself
}

// transfer hands leadership over to another voter that has everything.
func (w *world) transfer(from *node) bool {
	candidates := w.candidates(from)
	if w.log.leader != from || len(candidates) == 0 || !w.hasQuorum(from) {
		return false
	}
	from.leads = false
	w.elect(candidates[w.random.IntN(len(candidates))])
	return true
}
