package fsm

import "dems"

// checkCluster checks members, standings, verdicts and incidents.
func (m *Machine) checkCluster() error {
	c := &m.cluster
	for i := range c.members {
		member := &c.members[i]
		if !isMember(member) || member.Address != "" || i > 0 && c.members[i-1].ID >= member.ID {
			return broken("member %s is out of order", member.ID)
		}
		if c.standing(member.ID) == nil {
			return broken("member %s has no standing", member.ID)
		}
	}
	if len(c.standings) > m.limits.registrations || len(c.incidents) > m.limits.incidents {
		return broken("%d standings and %d incidents", len(c.standings), len(c.incidents))
	}
	for i := range c.standings {
		if i > 0 && c.standings[i-1].Node >= c.standings[i].Node {
			return broken("the standing of %s is out of order", c.standings[i].Node)
		}
		if err := m.checkStanding(&c.standings[i]); err != nil {
			return err
		}
	}
	if err := m.checkVerdicts(); err != nil {
		return err
	}
	return m.checkIncidents()
}

func (m *Machine) checkStanding(s *standing) error {
	member := m.cluster.member(s.Node)
	inside := member != nil && member.Incarnation == s.Incarnation
	possible := true
	switch s.Condition {
	case dems.Correct, dems.Convicted:
		possible = inside
	case dems.Rejoining:
		possible = inside && member.Suffrage == dems.Nonvoter
	case dems.Expelled, dems.Quarantined:
		possible = s.Incarnation > 1
	default:
		possible = false
	}
	if !possible || s.Incarnation == 0 || s.Since == 0 || s.Since > m.index || s.ByHand && (s.Condition == dems.Correct || s.Condition == dems.Quarantined) {
		return broken("%s of incarnation %d is %s since %d", s.Node, s.Incarnation, s.Condition, s.Since)
	}
	last := uint64(0)
	for _, removed := range s.removals {
		if removed < last || removed > max(1, m.logTime()) {
			return broken("%s was removed at %d, after %d and before %d", s.Node, removed, last, m.logTime())
		}
		last = removed
	}
	return nil
}

func (m *Machine) checkVerdicts() error {
	c := &m.cluster
	for i := range c.verdicts {
		v := &c.verdicts[i]
		if !c.isVoter(v.node, v.incarnation) || !c.isVoter(v.by, v.byIncarnation) || v.node == v.by || v.time > m.logTime() {
			return broken("a verdict of %s on %s that cannot be", v.by, v.node)
		}
		if c.standing(v.node).Condition != dems.Correct {
			return broken("a verdict on %s is still there", v.node)
		}
		if i > 0 && compareVerdicts(c.verdicts[i-1], *v) >= 0 {
			return broken("the verdict of %s on %s is out of order", v.by, v.node)
		}
	}
	return nil
}

func (m *Machine) checkIncidents() error {
	for i := range m.cluster.incidents {
		incident := &m.cluster.incidents[i]
		if incident.Sequence == 0 || incident.Sequence > m.index || i > 0 && !precedes(&m.cluster.incidents[i-1], incident) {
			return broken("the incident at %d is out of order", incident.Sequence)
		}
	}
	return nil
}
