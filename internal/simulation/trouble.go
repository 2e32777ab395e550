package simulation

import (
	"time"

	"dems"
)

// makeTrouble has something go wrong again and again, until the network heals.
func (w *world) makeTrouble() {
	rare := 1
	if w.profile.recidivist >= 0 || w.profile.alone {
		rare = 6 // such a seed is long
	}
	if w.at >= w.profile.trouble {
		w.heal()
		return
	}
	w.after(time.Duration(rare)*w.between(20*time.Millisecond, 400*time.Millisecond), w.makeTrouble)
	n := w.nodes[w.random.IntN(len(w.nodes))]
	switch kind := w.random.IntN(20); {
	case kind < 3:
		w.crashForAWhile(n)
	case kind < 5:
		w.hangForAWhile(n)
	case kind < 8:
		w.cutForAWhile(n)
	case kind < 10:
		if leader := w.log.leader; leader != nil {
			w.transfer(leader)
		}
	case kind < 14:
		if n.up && !n.hangs && !n.installing {
			n.takeSnapshot()
		}
	case kind < 19:
		w.infect(n)
	case w.profile.operator:
		w.replaceByHand()
	}
	if w.profile.recidivist >= 0 && w.at > time.Second {
		w.relapse(w.nodes[w.profile.recidivist])
	}
}

// crashForAWhile ends a node's process and starts it again.
func (w *world) crashForAWhile(n *node) {
	if !n.up {
		return
	}
	w.outcome.Count.Crashes++
	w.trace("%s crashes", n.title())
	n.crash()
	starts := n.starts
	w.after(w.between(20*time.Millisecond, 1200*time.Millisecond), func() {
		if !n.up && n.starts == starts {
			n.start()
		}
	})
}

func (w *world) hangForAWhile(n *node) {
	if !n.up || n.hangs {
		return
	}
	w.trace("%s hangs", n.title())
	n.hangs = true
	starts := n.starts
	w.after(w.between(20*time.Millisecond, 1500*time.Millisecond), func() {
		if n.up && n.starts == starts && n.hangs {
			w.trace("%s goes on", n.title())
			n.resume()
		}
	})
}

func (w *world) cutForAWhile(n *node) {
	if n.cut {
		return
	}
	n.cut, n.deaf = true, w.chance(50)
	w.trace("%s is cut off, from front ends too: %t", n.title(), n.deaf)
	w.after(w.between(20*time.Millisecond, 2500*time.Millisecond), func() { w.reconnect(n) })
}

// reconnect ends that a node is cut off. Streams that broke are begun again.
func (w *world) reconnect(n *node) {
	if !n.cut {
		return
	}
	n.cut, n.deaf = false, false
	w.trace("%s is connected again", n.title())
	for _, other := range w.nodes {
		if other != n {
			n.manager.broken[other.number], other.manager.broken[n.number] = true, true
		}
	}
}

// relapse makes a node wrong as soon as it is right again, in a way that has to be found.
func (w *world) relapse(n *node) {
	if !n.up || !w.spare(n) {
		return
	}
	w.outcome.Count.Faults++
	if w.chance(50) {
		w.deedsOf(n).state = true
		w.trace("%s relapses: %s", n.title(), n.machine.Corrupt(w.random.Uint64()))
		return
	}
	n.fault = fault{kind: wrongResults, left: -1}
	w.trace("%s relapses: %s", n.title(), n.fault.kind)
}

// leaveAlone has the leader become wrong while so many others are away that no majority can tell who is right. It keeps its
// state in a snapshot, and cuts its log, before they come back: they can get what they missed from nobody but a wrong leader.
func (w *world) leaveAlone() {
	leader := w.log.leader
	if leader == nil || !w.spare(leader) {
		return
	}
	away := (len(w.nodes) - 1) / 2
	for _, n := range w.nodes {
		if n == leader || !n.up || away == 0 {
			continue
		}
		away--
		w.trace("%s is away for long", n.title())
		n.crash()
		starts := n.starts
		w.after(w.between(7500*time.Millisecond, 9*time.Second), func() {
			if !n.up && n.starts == starts {
				n.start()
			}
		})
	}
	w.after(100*time.Millisecond, func() {
		if !leader.up || !w.spare(leader) {
			return
		}
		w.outcome.Count.Faults++
		w.deedsOf(leader).state = true
		w.trace("%s is wrong, and nobody can tell: %s", leader.title(), leader.machine.Corrupt(w.random.Uint64()))
		leader.after(w.between(500*time.Millisecond, 2*time.Second), leader.takeSnapshot)
	})
}

// replaceByHand is an operator who lets a node out of quarantine, or else has a correct one replaced.
func (w *world) replaceByHand() {
	leader := w.log.leader
	if leader == nil || !leader.ready {
		return
	}
	standings, _ := leader.standings()
	chosen := standings[w.random.IntN(len(standings))]
	for _, s := range standings {
		if s.Condition == dems.Quarantined {
			chosen = s
		}
	}
	switch n := w.node(chosen.Node); chosen.Condition {
	case dems.Quarantined:
	case dems.Correct:
		if w.healing || !settled(standings) || !w.spare(n) {
			return
		}
		n.leaving = true
	default:
		return
	}
	w.trace("an operator has %s.%d replaced", chosen.Node, chosen.Incarnation)
	leader.propose(dems.Entry{Kind: dems.ReplacementEntry, Replacement: dems.Replacement{
		Node: chosen.Node, Incarnation: chosen.Incarnation, By: byOperator, Cause: "asked for", Time: w.now(),
	}}, func(bool) {})
}

const byOperator = "operator"

// heal ends all trouble. Who is wrong without limit in its votes stays so: it has to be found.
func (w *world) heal() {
	w.healing = true
	w.trace("the network heals")
	for _, n := range w.nodes {
		w.reconnect(n)
		switch {
		case !n.up:
			n.start()
		case n.hangs:
			n.resume()
		}
		if !n.fault.kind.convicts() || n.fault.left >= 0 {
			n.cure()
		}
	}
	w.reference.healed = w.at
	w.settle()
}

// settle ends the run when everything is as it should be again, or it has taken too long.
func (w *world) settle() {
	const atMost = 150 * time.Second // verdicts that have not convicted are given again after a minute
	reason := w.unsettled()
	switch {
	case reason == "":
		for _, f := range w.frontEnds {
			f.quiet = true
		}
		w.after(time.Second, w.checkEnd)
		return
	case w.at-w.reference.healed > atMost:
		w.fail("%s after the network healed: %s", atMost, reason)
	case w.profile.operator && w.chance(10):
		w.replaceByHand()
	}
	w.after(100*time.Millisecond, w.settle)
}

// unsettled returns what is not as it should be yet.
func (w *world) unsettled() string {
	if w.log.leader == nil {
		return "nobody leads"
	}
	for _, n := range w.nodes {
		s := w.reference.standing(n.name)
		if s.Condition == dems.Quarantined && !w.profile.operator {
			continue
		}
		switch {
		case s.Condition != dems.Correct:
			return n.title() + " is " + s.Condition.String()
		case !isVoter(w.members(), n.name, n.incarnation):
			return n.title() + " is no voter"
		case n.fault.kind != noFault:
			return n.title() + " is wrong and was not convicted: " + n.fault.kind.String()
		case n.up && n.machine.Digest() != w.reference.digests[n.machine.Index()]:
			return n.title() + " has a wrong state and was not convicted"
		case !n.up || !n.ready:
			return n.title() + " is not ready"
		}
	}
	for _, f := range w.frontEnds {
		if !f.hostile && (f.lastWrite < w.reference.healed || f.lastRead < w.reference.healed) {
			return string(f.name) + " has had no answers"
		}
	}
	return ""
}
