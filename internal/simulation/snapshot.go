package simulation

import (
	"bytes"
	"time"

	"dems"
	"dems/fsm"
)

const (
	installTimeout = 500 * time.Millisecond
	takeTimeout    = 5 * time.Second
)

// takeSnapshot writes the state to the disk and cuts the log, if a majority of the voters had the same state. That nobody
// contradicts is not enough: the rest may be away, and come back to find nothing but this.
func (n *node) takeSnapshot() {
	w := n.world
	taken := n.machine.Snapshot()
	position, configuration := n.position, n.configuration
	if n.snapshotting || configuration == 0 || taken.Recompute() != taken.Digest() || n.snapshot != nil && n.snapshot.index >= position {
		return
	}
	n.snapshotting = true
	members, _ := n.members()
	n.confirm(takeTimeout, members, taken.Index(), taken.Digest(), func(proven, contradicted bool) {
		n.snapshotting = false
		if n.snapshot != nil && n.snapshot.index >= position {
			return // it has got one from the leader meanwhile
		}
		if contradicted || !proven && w.mutation != Unproven {
			w.outcome.Count.Refusals++
			w.trace("%s does not keep its snapshot of %d", n.title(), position)
			return
		}
		var data bytes.Buffer
		if _, err := taken.WriteTo(&data); err != nil {
			w.fail("%s: snapshot: %v", n.title(), err)
			return
		}
		n.snapshot = &saved{position, configuration, taken.Digest(), data.Bytes()}
		trailing := w.random.IntN(12)
		if w.profile.alone {
			trailing = 0
		}
		n.compacted = max(n.compacted, position-min(position, uint64(trailing)))
		w.trace("%s keeps a snapshot of %d and its log from %d", n.title(), position, n.compacted+1)
	})
}

// install takes the leader's snapshot in place of entries that it does not have any more.
func (n *node) install(leader *node) {
	s := leader.snapshot
	if s == nil || s.index <= n.position {
		return
	}
	w := n.world
	n.installing = true
	machine, err := fsm.Restore(bytes.NewReader(s.data), dems.DefaultCities())
	if err != nil {
		w.fail("%s cannot read the snapshot of %s: %v", n.title(), leader.title(), err)
		return
	}
	n.confirm(installTimeout, w.log.entries[s.configuration-1].members, machine.Index(), machine.Digest(), func(_, contradicted bool) {
		n.installing = false
		if contradicted {
			w.outcome.Count.Refusals++
			w.trace("%s does not take the snapshot of %d from %s", n.title(), s.index, leader.title())
			return
		}
		w.outcome.Count.Installs++
		n.snapshot, n.stored, n.compacted = s, s.index, s.index
		n.machine, n.position, n.configuration = machine, s.index, s.configuration
		n.history = map[uint64]dems.Digest{machine.Index(): machine.Digest()}
		w.trace("%s takes the snapshot of %d from %s: %.8s", n.title(), s.index, leader.title(), machine.Digest())
		w.inspect(n)
		n.advance()
		n.manager.told()
		n.follow(w.delay())
	})
}

// confirm asks the voters what state they had at an index. Done is told whether a majority of them is known to have had this
// one, or another one.
func (n *node) confirm(atMost time.Duration, members []dems.Member, index uint64, digest dems.Digest, done func(proven, contradicted bool)) {
	voters, same, asked := 0, 0, 0
	others := make(map[dems.Digest]int)
	finished := false
	finish := func(contradicted bool) {
		if !finished {
			finished = true
			done(same > voters/2, contradicted)
		}
	}
	count := func(got dems.Digest, ok bool) {
		asked--
		switch {
		case !ok:
		case got == digest:
			same++
		default:
			others[got]++
		}
		switch {
		case others[got] > voters/2:
			finish(true)
		case same > voters/2 || asked == 0:
			finish(false)
		}
	}
	for _, member := range members {
		if member.Suffrage == dems.Voter {
			voters++
			if own, known := n.stateAt(index); member.ID != n.name {
				asked++
			} else if known && own == digest {
				same++
			}
		}
	}
	if asked == 0 {
		finish(false)
		return
	}
	for _, member := range members {
		if member.Suffrage == dems.Voter && member.ID != n.name {
			n.digestOf(n.world.node(member.ID), index, n.world.at+atMost, count)
		}
	}
}

// digestOf asks a node for the digest of its state at an index until it has one, or the time is up.
func (n *node) digestOf(other *node, index uint64, until time.Duration, done func(dems.Digest, bool)) {
	w := n.world
	pause := 20 * time.Millisecond
	answered := false
	call(&n.party, other, min(100*time.Millisecond, max(0, until-w.at)), func() (dems.Digest, bool) { return other.stateAt(index) },
		func(digest dems.Digest, ok bool) {
			switch {
			case answered:
			case ok || w.at+pause >= until:
				answered = true
				done(digest, ok)
			default:
				n.after(pause, func() { n.digestOf(other, index, until, done) })
			}
		})
}
