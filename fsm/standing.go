package fsm

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"dems"
)

// A node's standing follows from the configuration, from verdicts and from replacements, all of which are in the log:
//
//	Correct ── verdicts, replacement ──► Convicted ── leaves ──► Expelled ── added ──► Rejoining ── voter ──► Correct
//
// Whoever leaves is expected back under the next incarnation. One that leaves for too many convictions within an hour is
// Quarantined instead, and a replacement by hand makes it Expelled.

// removalPeriod is the log time within which automatic removals are counted.
const removalPeriod = time.Hour

// ApplyConfiguration applies a change of the cluster's configuration, which stands in the log like any other entry: index
// must be above the last. Addresses are no part of the state. An error means that the configuration is none, or that an
// invariant broke: the node must stop.
func (m *Machine) ApplyConfiguration(index uint64, members []dems.Member) (Applied, error) {
	if err := m.expect(index); err != nil {
		return Applied{}, err
	}
	sorted := slices.Clone(members)
	slices.SortFunc(sorted, func(a, b dems.Member) int { return cmp.Compare(a.ID, b.ID) })
	for i := range sorted {
		member := &sorted[i]
		member.Address = ""
		if !isMember(member) || i > 0 && sorted[i-1].ID == member.ID || len(sorted) > m.limits.registrations {
			return Applied{}, fmt.Errorf("index %d: a configuration of %d members with %q, incarnation %d, %q: %w", index,
				len(sorted), member.ID, member.Incarnation, member.Suffrage, dems.ErrMalformed)
		}
	}
	m.index = index
	var applied Applied
	m.replaceMembers(sorted)
	for _, id := range m.everyone() {
		m.follow(id, &applied)
	}
	return m.finish(applied)
}

func isMember(member *dems.Member) bool {
	return dems.ValidName(string(member.ID)) && member.Incarnation > 0 &&
		(member.Suffrage == dems.Voter || member.Suffrage == dems.Nonvoter)
}

// replaceMembers replaces the members and forgets the verdicts on and of those that are no voters any more.
func (m *Machine) replaceMembers(members []dems.Member) {
	c := &m.cluster
	for i := range c.members {
		m.common.remove(memberHash(&c.members[i]))
	}
	c.members = members
	for i := range c.members {
		m.common.add(memberHash(&c.members[i]))
	}
	m.dropVerdicts(func(v *verdict) bool {
		return !c.isVoter(v.node, v.incarnation) || !c.isVoter(v.by, v.byIncarnation)
	})
}

// everyone returns the IDs of all members and of all nodes that have a standing, in order.
func (m *Machine) everyone() []dems.NodeID {
	var all []dems.NodeID
	for i := range m.cluster.standings {
		all = append(all, m.cluster.standings[i].Node)
	}
	for i := range m.cluster.members {
		all = append(all, m.cluster.members[i].ID)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// follow lets a node's standing follow a new configuration.
func (m *Machine) follow(id dems.NodeID, applied *Applied) {
	member, known := m.cluster.member(id), m.cluster.standing(id)
	if known == nil {
		if member != nil { // else it has just given way to others
			m.putStanding(standing{Standing: dems.Standing{Node: id, Incarnation: member.Incarnation}})
		}
		return
	}
	s := *known
	inside := s.Condition == dems.Correct || s.Condition == dems.Convicted || s.Condition == dems.Rejoining
	if inside && (member == nil || member.Incarnation != s.Incarnation) {
		m.leave(&s, applied)
	}
	if member == nil || member.Incarnation < s.Incarnation {
		return
	}
	switch {
	case s.Condition == dems.Expelled && member.Suffrage == dems.Nonvoter:
		s.Condition, s.Incarnation = dems.Rejoining, member.Incarnation
		m.putStanding(s)
	case (s.Condition == dems.Expelled || s.Condition == dems.Rejoining) && member.Suffrage == dems.Voter:
		s.Condition, s.Incarnation, s.ByHand = dems.Correct, member.Incarnation, false
		m.putStanding(s)
		m.note(applied, m.about(&s, dems.ReadditionIncident, s.Incarnation,
			fmt.Sprintf("Incarnation %d is a voter.", s.Incarnation)))
	}
}

// leave makes a node that has left the configuration wait for its next incarnation, or quarantines it.
func (m *Machine) leave(s *standing, applied *Applied) {
	now, left := max(1, m.logTime()), s.Incarnation // 0 stands for no removal
	quarantined := false
	if s.Condition == dems.Convicted && !s.ByHand {
		oldest := s.removals[0]
		if quarantined = oldest != 0 && within(removalPeriod, oldest, now); !quarantined {
			copy(s.removals[:], s.removals[1:])
			s.removals[len(s.removals)-1] = now
		}
	}
	s.Condition, s.Incarnation = dems.Expelled, left+1
	if quarantined {
		s.Condition = dems.Quarantined
	}
	m.putStanding(*s)
	m.note(applied, m.about(s, dems.RemovalIncident, left, fmt.Sprintf("Incarnation %d has left the configuration.", left)))
	if quarantined {
		m.note(applied, m.about(s, dems.QuarantineIncident, left, fmt.Sprintf(
			"It was replaced %d times within an hour. Find out why, then replace it by hand.", len(s.removals))))
	}
}

// about returns an incident that the cluster as a whole brings about.
func (m *Machine) about(s *standing, kind dems.IncidentKind, incarnation uint64, detail string) dems.Incident {
	now := time.UnixMilli(int64(m.logTime())).UTC()
	return dems.Incident{Time: now, Kind: kind, Node: s.Node, Incarnation: incarnation, Detail: detail}
}
