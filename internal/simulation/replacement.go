package simulation

import (
	"slices"
	"time"

	"dems"
	"dems/node/storage"
	"dems/node/verdict"
)

// settled tells whether nobody is to be replaced.
func settled(standings []dems.Standing) bool {
	return !slices.ContainsFunc(standings, func(s dems.Standing) bool {
		return s.Condition == dems.Convicted || s.Condition == dems.Expelled || s.Condition == dems.Rejoining
	})
}

// replace does the next step of a replacement, if this node leads.
func (m *manager) replace() {
	n := m.node
	standings, _ := n.standings()
	if m.planning || settled(standings) || !n.leads || !n.ready {
		return
	}
	m.planning = true
	view := verdict.View{Self: n.name, Standings: standings, Members: n.machine.Members()}
	guard, applied := n.configuration, n.machine.Index()
	n.statuses(func(statuses map[dems.NodeID]dems.NodeStatus) {
		view.Statuses = statuses
		if n.world.mutation == Impatient {
			view.Standings = slices.DeleteFunc(slices.Clone(standings), func(s dems.Standing) bool {
				return s.Condition == dems.Expelled && slices.ContainsFunc(standings, func(other dems.Standing) bool {
					return other.Condition == dems.Convicted
				})
			})
		}
		step := verdict.Plan(&view)
		m.act(&step, &view, guard, applied, func() {
			m.planning = false
			n.after(busyInterval, m.replace)
		})
	})
}

// act does one step and calls done when it has ended, however it did.
func (m *manager) act(step *verdict.Step, view *verdict.View, guard, applied uint64, done func()) {
	n := m.node
	w := n.world
	members := slices.Clone(w.log.entries[guard-1].members)
	switch step.Action {
	case verdict.Wait:
		done()
		return
	case verdict.HandOver:
		w.trace("%s was convicted and hands over", n.title())
		if w.chance(80) && w.transfer(n) {
			w.outcome.Count.HandOvers++
		}
		n.after(10*time.Millisecond, done)
		return
	case verdict.Remove:
		members = slices.DeleteFunc(members, func(member dems.Member) bool {
			return member.ID == step.Node && member.Incarnation == step.Incarnation
		})
	case verdict.AddNonvoter:
		members = append(members, dems.Member{ID: step.Node, Incarnation: step.Incarnation, Suffrage: dems.Nonvoter})
	case verdict.Compare:
		m.compare(step, view, guard, applied, done)
		return
	}
	w.trace("%s: %s %s.%d after configuration %d", n.title(), step.Action, step.Node, step.Incarnation, guard)
	m.configure(members, guard, done)
}

// configure proposes a configuration that has to follow on another one.
func (m *manager) configure(members []dems.Member, guard uint64, done func()) {
	finished := false
	finish := func() {
		if !finished {
			finished = true
			done()
		}
	}
	m.node.after(askTimeout, finish)
	m.node.world.propose(m.node, pending{entry{members: members}, guard, func(index uint64, committed bool) {
		if committed {
			m.node.await(index, finish)
		} else {
			m.node.after(0, finish)
		}
	}})
}

// compare compares the state of a node that has caught up with the voters' and makes it a voter if it is a majority's.
func (m *manager) compare(step *verdict.Step, view *verdict.View, guard, applied uint64, done func()) {
	n := m.node
	w, other := n.world, n.world.node(step.Node)
	until := w.at + compareTimeout
	var theirs dems.Digest
	voters, same, asked, needed := 0, 0, 0, 0
	others := make(map[dems.Digest]int)
	decided := false
	decide := func(what func()) {
		if !decided {
			decided = true
			what()
		}
	}
	count := func(digest dems.Digest, ok bool) {
		asked--
		switch {
		case !ok:
		case digest == theirs:
			same++
		default:
			others[digest]++
		}
		switch {
		case same >= needed:
			decide(func() { m.admit(step, guard, done) })
		case ok && others[digest] >= needed:
			decide(func() { m.reject(step, done) })
		case asked == 0:
			decide(done)
		}
	}
	voting := slices.DeleteFunc(slices.Clone(view.Members), func(member dems.Member) bool { return member.Suffrage != dems.Voter })
	voters, asked = len(voting), len(voting)
	needed = voters/2 + 1
	if slices.ContainsFunc(view.Standings, func(s dems.Standing) bool { return s.Node == step.Node && s.ByHand }) {
		same, needed = 1, (voters+1)/2+1
	}
	call(&n.party, other, statusTimeout, func() (dems.NodeStatus, bool) { return other.status(), true },
		func(status dems.NodeStatus, ok bool) {
			if !ok || status.Incarnation != step.Incarnation {
				done()
				return
			}
			n.digestOf(other, applied, until, func(digest dems.Digest, ok bool) {
				if !ok {
					done()
					return
				}
				theirs = digest
				for _, member := range voting {
					n.digestOf(w.node(member.ID), applied, until, count)
				}
			})
		})
}

// admit makes a node a voter.
func (m *manager) admit(step *verdict.Step, guard uint64, done func()) {
	w := m.node.world
	members := slices.Clone(w.log.entries[guard-1].members)
	for i := range members {
		if members[i].ID == step.Node && members[i].Incarnation == step.Incarnation {
			members[i].Suffrage = dems.Voter
		}
	}
	w.trace("%s makes %s.%d a voter after configuration %d", m.node.title(), step.Node, step.Incarnation, guard)
	m.configure(members, guard, done)
}

// reject has a node replaced once more.
func (m *manager) reject(step *verdict.Step, done func()) {
	m.node.world.trace("%s: the state of %s.%d is not the majority's", m.node.title(), step.Node, step.Incarnation)
	m.node.propose(dems.Entry{Kind: dems.ReplacementEntry, Replacement: dems.Replacement{
		Node: step.Node, Incarnation: step.Incarnation, By: string(m.node.name), Automatic: true, Time: m.node.world.now(),
		Cause: "its state differs from the majority's after it has caught up",
	}}, func(bool) { done() })
}

// learn asks whether this incarnation was removed, where there is reason to.
func (m *manager) learn() {
	n := m.node
	_, own := n.standings()
	suspicious := own.Condition == dems.Convicted || own.Incarnation > n.incarnation
	if m.learning || !suspicious && n.leader() != nil && n.ready {
		return
	}
	m.learning = true
	n.statuses(func(statuses map[dems.NodeID]dems.NodeStatus) {
		if next, proven := m.removal(statuses); proven {
			n.replaced(next)
			return
		}
		m.learning = false
		if suspicious {
			n.after(learnInterval, m.learn)
		}
	})
}

// removal returns the incarnation that is to take this one's place, if the statuses prove that it has left.
func (m *manager) removal(statuses map[dems.NodeID]dems.NodeStatus) (next uint64, proven bool) {
	n := m.node
	cluster := make([]dems.NodeID, len(n.world.nodes))
	for i, other := range n.world.nodes {
		cluster[i] = other.name
	}
	proof, err := storage.ProveRemoval(n.name, n.incarnation, cluster, statuses)
	if err == nil {
		return proof.Next(), true
	}
	if n.world.mutation == Hasty {
		for _, id := range cluster {
			for _, s := range statuses[id].Standings {
				if s.Node == n.name && s.Incarnation > n.incarnation {
					return s.Incarnation, true
				}
			}
		}
	}
	return 0, false
}
