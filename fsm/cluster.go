package fsm

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"dems"

	"github.com/zeebo/xxh3"
)

// cluster is what the state knows of the nodes themselves: who is a member, where each stands, what was found against whom,
// and what happened.
type cluster struct {
	time      uint64          // largest time of any verdict, replacement or incident that was accepted, Unix milliseconds
	members   []dems.Member   // by ID, without addresses; replaced as a whole, so snapshots share them
	standings []standing      // by node: of everyone that was ever a member, within the limit
	verdicts  []verdict       // by node, then by who found it: those that still count
	incidents []dems.Incident // as precedes orders them; appended to and cut, never changed, so snapshots share them
}

// standing is a node's standing and what decides over the next one.
type standing struct {
	dems.Standing
	removals [dems.MaxReplacementsPerHour]uint64 // log times of the last removals that count, in order; 0 where there is none
}

// verdict is what remains of a verdict until it has convicted or is too old. Its evidence is in the incident.
type verdict struct {
	node, by                   dems.NodeID
	incarnation, byIncarnation uint64
	time                       uint64 // log time when it was applied
}

// Members returns the members of the newest applied configuration, in the order of their IDs, without their addresses.
func (m *Machine) Members() []dems.Member { return slices.Clone(m.cluster.members) }

// Standings returns the standing of every node that was ever a member, in the order of their IDs. Beyond MaxRegistrations
// nodes, those that have been out for longest are forgotten.
func (m *Machine) Standings() []dems.Standing {
	plain := make([]dems.Standing, len(m.cluster.standings))
	for i := range m.cluster.standings {
		plain[i] = m.cluster.standings[i].Standing
	}
	return plain
}

// Incidents returns what happened from a log index on, in log order: at most MaxIncidents, the oldest are forgotten first.
func (m *Machine) Incidents(from uint64) []dems.Incident {
	at, _ := slices.BinarySearchFunc(m.cluster.incidents, from, func(i dems.Incident, from uint64) int {
		return cmp.Compare(i.Sequence, from)
	})
	return slices.Clone(m.cluster.incidents[at:])
}

// LastHealth returns the newest incident after a log index that says of an incarnation of a node whether it answers: a suspicion or
// a recovery. It returns false where there is none, or none any more.
func (m *Machine) LastHealth(node dems.NodeID, incarnation, after uint64) (dems.Incident, bool) {
	for i := range slices.Backward(m.cluster.incidents) {
		incident := &m.cluster.incidents[i]
		if incident.Sequence <= after {
			break
		}
		told := incident.Kind == dems.SuspicionIncident || incident.Kind == dems.RecoveryIncident
		if told && incident.Node == node && incident.Incarnation == incarnation {
			return *incident, true
		}
	}
	return dems.Incident{}, false
}

// lastIncident returns the index of the newest incident, 0 where there is none.
func (c *cluster) lastIncident() uint64 {
	if len(c.incidents) == 0 {
		return 0
	}
	return c.incidents[len(c.incidents)-1].Sequence
}

// logTime returns the time that verdicts and removals are measured in: it never goes back, and no clock is read for it. It
// is ahead of m.clock where no command has come since a verdict; keys age by m.clock alone.
func (m *Machine) logTime() uint64 { return max(m.clock, m.cluster.time) }

// advance takes the time of an accepted entry into account and returns the log time.
func (m *Machine) advance(t time.Time) uint64 {
	m.cluster.time = max(m.cluster.time, uint64(max(0, t.UnixMilli())))
	return m.logTime()
}

// within tells whether a log time is at most so long before now, which is none before it.
func within(period time.Duration, then, now uint64) bool {
	return now-then <= uint64(period/time.Millisecond)
}

// note adds an incident of the entry that is being applied, and forgets the oldest ones if there are too many.
func (m *Machine) note(applied *Applied, incident dems.Incident) {
	incident.Sequence = m.index
	c := &m.cluster
	if count := len(c.incidents); count > 0 && !precedes(&c.incidents[count-1], &incident) {
		m.fail("incident %s of %q does not come after the last one", incident.Kind, incident.Node)
	}
	for len(c.incidents) >= m.limits.incidents {
		m.common.remove(incidentHash(&c.incidents[0]))
		c.incidents = c.incidents[1:]
	}
	c.incidents = append(c.incidents, incident)
	m.common.add(incidentHash(&incident))
	applied.Incidents = append(applied.Incidents, incident)
}

// precedes tells whether an incident stands before another: by the entry, then the node, then the kind, so that there is
// one order of what one entry brings about.
func precedes(a, b *dems.Incident) bool {
	return cmp.Or(cmp.Compare(a.Sequence, b.Sequence), cmp.Compare(a.Node, b.Node), cmp.Compare(a.Kind, b.Kind)) < 0
}

// member returns the member with an ID, or nil.
func (c *cluster) member(id dems.NodeID) *dems.Member {
	at, found := slices.BinarySearchFunc(c.members, id, func(m dems.Member, id dems.NodeID) int { return cmp.Compare(m.ID, id) })
	if !found {
		return nil
	}
	return &c.members[at]
}

// isVoter tells whether that incarnation of a node is a voter.
func (c *cluster) isVoter(id dems.NodeID, incarnation uint64) bool {
	member := c.member(id)
	return member != nil && member.Incarnation == incarnation && member.Suffrage == dems.Voter
}

// standing returns a node's standing, or nil.
func (c *cluster) standing(id dems.NodeID) *standing {
	at, found := c.searchStanding(id)
	if !found {
		return nil
	}
	return &c.standings[at]
}

func (c *cluster) searchStanding(id dems.NodeID) (int, bool) {
	return slices.BinarySearchFunc(c.standings, id, func(s standing, id dems.NodeID) int { return cmp.Compare(s.Node, id) })
}

// putStanding puts a standing in the place of the node's last one, and forgets the verdicts on the node. If there are too
// many, the one of a node that has been out for longest gives way.
func (m *Machine) putStanding(s standing) {
	c := &m.cluster
	s.Since = m.index
	m.dropVerdicts(func(v *verdict) bool { return v.node == s.Node })
	if old := c.standing(s.Node); old != nil {
		m.common.remove(old.hash())
		*old = s
	} else {
		if len(c.standings) >= m.limits.registrations {
			m.forgetStanding()
		}
		at, _ := c.searchStanding(s.Node)
		c.standings = slices.Insert(c.standings, at, s)
	}
	m.common.add(s.hash())
}

// forgetStanding forgets the oldest standing of a node that is no member. There is one, because there are never more
// members than standings.
func (m *Machine) forgetStanding() {
	c, oldest := &m.cluster, -1
	for i := range c.standings {
		if c.member(c.standings[i].Node) == nil && (oldest < 0 || c.standings[i].Since < c.standings[oldest].Since) {
			oldest = i
		}
	}
	if oldest < 0 {
		m.fail("%d standings, and all nodes are members", len(c.standings))
		return
	}
	m.common.remove(c.standings[oldest].hash())
	c.standings = slices.Delete(c.standings, oldest, oldest+1)
}

// dropVerdicts forgets the verdicts that drop chooses.
func (m *Machine) dropVerdicts(drop func(*verdict) bool) {
	m.cluster.verdicts = slices.DeleteFunc(m.cluster.verdicts, func(v verdict) bool {
		if !drop(&v) {
			return false
		}
		m.common.remove(v.hash())
		return true
	})
}

// The binary forms, which snapshots have and the digest is formed of. docs/formats.md draws them.

func appendMember(dst []byte, member *dems.Member) []byte {
	voter := byte(0)
	if member.Suffrage == dems.Voter {
		voter = 1
	}
	return append(binary.AppendUvarint(dems.AppendText(dst, string(member.ID)), member.Incarnation), voter)
}

func (s *standing) append(dst []byte) []byte {
	byHand := byte(0)
	if s.ByHand {
		byHand = 1
	}
	dst = binary.AppendUvarint(dems.AppendText(dst, string(s.Node)), s.Incarnation)
	dst = binary.AppendUvarint(append(dst, byte(s.Condition)), s.Since)
	return appendNumbers(append(dst, byHand), s.removals[:]...)
}

func (v *verdict) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dems.AppendText(dst, string(v.node)), v.incarnation)
	dst = binary.AppendUvarint(dems.AppendText(dst, string(v.by)), v.byIncarnation)
	return binary.AppendUvarint(dst, v.time)
}

func appendIncident(dst []byte, incident *dems.Incident) []byte {
	return dems.AppendIncident(binary.AppendUvarint(dst, incident.Sequence), incident)
}

func memberHash(member *dems.Member) hash {
	return xxh3.Hash128Seed(appendMember(nil, member), memberSeed)
}
func (s *standing) hash() hash { return xxh3.Hash128Seed(s.append(nil), standingSeed) }
func (v *verdict) hash() hash  { return xxh3.Hash128Seed(v.append(nil), verdictSeed) }

func incidentHash(incident *dems.Incident) hash {
	return xxh3.Hash128Seed(appendIncident(nil, incident), incidentSeed)
}

func (c *cluster) recompute() sum {
	var total sum
	for i := range c.members {
		total.add(memberHash(&c.members[i]))
	}
	for i := range c.standings {
		total.add(c.standings[i].hash())
	}
	for i := range c.verdicts {
		total.add(c.verdicts[i].hash())
	}
	for i := range c.incidents {
		total.add(incidentHash(&c.incidents[i]))
	}
	return total
}

// copy returns what later changes do not touch.
func (c *cluster) copy() cluster {
	copied := *c
	copied.standings, copied.verdicts = slices.Clone(c.standings), slices.Clone(c.verdicts)
	return copied
}
