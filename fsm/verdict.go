package fsm

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"dems"
)

// verdictLifetime is how long, in log time, a verdict counts: what finds a node wrong finds it at about the same time
// everywhere. Within it nobody gives a second verdict on the same incarnation.
const verdictLifetime = time.Minute

// applyVerdict counts a verdict and convicts the node if more than half of the other voters have given one. It returns why
// it was refused, or "".
func (m *Machine) applyVerdict(v *dems.Verdict, applied *Applied) string {
	c := &m.cluster
	accused := c.standing(v.Node)
	switch {
	case v.Node == v.By:
		return fmt.Sprintf("%s gives a verdict on itself", v.By)
	case !c.isVoter(v.By, v.ByIncarnation):
		return fmt.Sprintf("%s of incarnation %d gives a verdict and is no voter", v.By, v.ByIncarnation)
	case !c.isVoter(v.Node, v.Incarnation):
		return fmt.Sprintf("a verdict on %s of incarnation %d, which is no voter", v.Node, v.Incarnation)
	case accused.Condition != dems.Correct:
		return fmt.Sprintf("a verdict on %s, which is %s already", v.Node, accused.Condition)
	}
	now := max(m.logTime(), uint64(max(0, v.Time.UnixMilli())))
	added := verdict{node: v.Node, by: v.By, incarnation: v.Incarnation, byIncarnation: v.ByIncarnation, time: now}
	at, found := slices.BinarySearchFunc(c.verdicts, added, compareVerdicts)
	if found && within(verdictLifetime, c.verdicts[at].time, now) {
		return fmt.Sprintf("%s has given a verdict on %s within the last minute", v.By, v.Node)
	}
	m.advance(v.Time)
	m.dropVerdicts(func(old *verdict) bool { return !within(verdictLifetime, old.time, now) })
	at, _ = slices.BinarySearchFunc(c.verdicts, added, compareVerdicts)
	c.verdicts = slices.Insert(c.verdicts, at, added)
	m.common.add(added.hash())
	incident := dems.Incident{
		Time: v.Time, Kind: dems.VerdictIncident, Node: v.Node, Incarnation: v.Incarnation, By: string(v.By), Index: v.Index,
		Expected: v.Expected, Answered: v.Answered,
		Detail: fmt.Sprintf("By the records of %s it was wrong at index %d.", v.By, v.Index),
	}
	m.note(applied, incident)
	if found, others := c.tally(v.Node); found > 1 && 2*found > others { // of two nodes, nobody knows which is right
		convicted := *accused
		convicted.Condition = dems.Convicted
		m.putStanding(convicted)
		incident.Kind, incident.By = dems.ConvictionIncident, ""
		incident.Detail = fmt.Sprintf("%d of %d other voters found it wrong.", found, others)
		m.note(applied, incident)
	}
	return ""
}

// compareVerdicts orders verdicts by node, then by who found it. Nobody has two on the same node.
func compareVerdicts(a, b verdict) int {
	return cmp.Or(cmp.Compare(a.node, b.node), cmp.Compare(a.by, b.by))
}

// tally returns how many voters found a node wrong, and how many voters there are besides it. Whoever has given a verdict
// that is held is a voter.
func (c *cluster) tally(node dems.NodeID) (found, others int) {
	for i := range c.verdicts {
		if c.verdicts[i].node == node {
			found++
		}
	}
	for i := range c.members {
		if c.members[i].Suffrage == dems.Voter && c.members[i].ID != node {
			others++
		}
	}
	return found, others
}

// applyReplacement convicts a node whatever is known against it, or lets one out of quarantine. It returns why it was
// refused, or "".
func (m *Machine) applyReplacement(r *dems.Replacement, applied *Applied) string {
	known := m.cluster.standing(r.Node)
	if known == nil {
		return fmt.Sprintf("%s was never a member", r.Node)
	}
	s := *known
	if s.Incarnation != r.Incarnation {
		return fmt.Sprintf("the replacement of %s names incarnation %d, and it is at %d: look again",
			r.Node, r.Incarnation, s.Incarnation)
	}
	switch {
	case s.Condition == dems.Correct:
		if other := m.cluster.replacing(); other != nil && !r.Automatic {
			return fmt.Sprintf("%s is %s: wait until it is back", other.Node, other.Condition)
		}
		s.Condition, s.ByHand = dems.Convicted, !r.Automatic
	case s.Condition == dems.Rejoining:
		s.Condition, s.ByHand = dems.Convicted, !r.Automatic
	case s.Condition == dems.Quarantined && !r.Automatic:
		if other := m.cluster.replacing(); other != nil {
			return fmt.Sprintf("%s is %s: wait until it is back", other.Node, other.Condition)
		}
		s.Condition, s.ByHand, s.removals = dems.Expelled, true, [dems.MaxReplacementsPerHour]uint64{}
	case s.Condition == dems.Quarantined:
		return fmt.Sprintf("%s is quarantined: it has to be replaced by hand", r.Node)
	default:
		return fmt.Sprintf("%s is being replaced: it is %s", r.Node, s.Condition)
	}
	m.advance(r.Time)
	m.putStanding(s)
	m.note(applied, dems.Incident{Time: r.Time, Kind: dems.ConvictionIncident, Node: r.Node, Incarnation: r.Incarnation,
		By: r.By, Detail: r.Cause})
	return ""
}

// replacing returns the first node that is on its way out or back in, or nil.
func (c *cluster) replacing() *standing {
	for i := range c.standings {
		switch c.standings[i].Condition {
		case dems.Convicted, dems.Expelled, dems.Rejoining:
			return &c.standings[i]
		}
	}
	return nil
}

// applyIncident remembers what a node or a front end reports. It returns why it was refused, or "": what follows from the
// state is not for anybody to report.
func (m *Machine) applyIncident(incident *dems.Incident, applied *Applied) string {
	switch incident.Kind {
	case dems.AccusationIncident, dems.SuspicionIncident, dems.RecoveryIncident, dems.LeaderChangeIncident, dems.NoMajorityIncident:
	default:
		return fmt.Sprintf("a %s is found by all nodes together and cannot be reported", incident.Kind)
	}
	m.advance(incident.Time)
	m.note(applied, *incident)
	return ""
}
