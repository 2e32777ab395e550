package fsm

import "dems"

// What a snapshot says of the nodes themselves. CheckInvariants sees to what must hold between the records.

func (in *snapshotReader) takeMember(d *dems.Decoder) error {
	c := &in.machine.cluster
	member := dems.Member{ID: dems.NodeID(d.Text(dems.MaxNameBytes)), Incarnation: d.Uvarint(), Suffrage: dems.Nonvoter}
	switch d.Byte() {
	case 0:
	case 1:
		member.Suffrage = dems.Voter
	default:
		return bad("a member of unknown suffrage")
	}
	if !isMember(&member) || len(c.members) == in.machine.limits.registrations {
		return bad("an impossible member")
	}
	c.members = append(c.members, member)
	return nil
}

func (in *snapshotReader) takeStanding(d *dems.Decoder) error {
	c := &in.machine.cluster
	s := standing{Standing: dems.Standing{
		Node: dems.NodeID(d.Text(dems.MaxNameBytes)), Incarnation: d.Uvarint(), Condition: dems.Condition(d.Byte()), Since: d.Uvarint(),
	}}
	byHand := d.Byte()
	s.ByHand = byHand == 1
	for i := range s.removals {
		s.removals[i] = d.Uvarint()
	}
	if byHand > 1 || !dems.ValidName(string(s.Node)) || len(c.standings) == in.machine.limits.registrations {
		return bad("an impossible standing")
	}
	c.standings = append(c.standings, s)
	return nil
}

func (in *snapshotReader) takeVerdict(d *dems.Decoder) error {
	c := &in.machine.cluster
	v := verdict{node: dems.NodeID(d.Text(dems.MaxNameBytes)), incarnation: d.Uvarint()}
	v.by, v.byIncarnation, v.time = dems.NodeID(d.Text(dems.MaxNameBytes)), d.Uvarint(), d.Uvarint()
	if len(c.verdicts) == len(c.members)*len(c.members) {
		return bad("a verdict too many")
	}
	c.verdicts = append(c.verdicts, v)
	return nil
}

func (in *snapshotReader) takeIncident(d *dems.Decoder) error {
	c := &in.machine.cluster
	sequence := d.Uvarint()
	incident := dems.DecodeIncident(d)
	incident.Sequence = sequence
	if len(c.incidents) == in.machine.limits.incidents {
		return bad("an incident too many")
	}
	c.incidents = append(c.incidents, incident)
	return nil
}
