package fsm

import (
	"encoding/binary"

	"dems"
)

// Each take function takes one record out of the decoder and into the machine. The caller checks the decoder's own error
// first, so what they return may be the consequence of that.

func (in *snapshotReader) takeHead(d *dems.Decoder) error {
	m := in.machine
	text, ours := d.Text(dems.MaxCities*(dems.MaxCityNameBytes+5)), m.cities.String()
	m.index, m.clock, m.lastBooking = d.Uvarint(), d.Uvarint(), d.Uvarint()
	for i := range m.typeVersions[1:] {
		m.typeVersions[1+i] = d.Uvarint()
	}
	m.registry.version, m.cluster.time = d.Uvarint(), d.Uvarint()
	if d.Rest() > 0 {
		return bad("more than one head")
	}
	if text != ours {
		return bad("its cities are %q, those of the cluster %q", text, ours)
	}
	if m.registry.version > m.index {
		return bad("a version is above the index")
	}
	return nil
}

func (in *snapshotReader) takeCity(d *dems.Decoder) error {
	if in.cities == len(in.machine.states) {
		return bad("more than %d cities", in.cities)
	}
	state := &in.machine.states[in.cities]
	for i := range state.membership[1:] {
		state.membership[1+i] = d.Uvarint()
	}
	state.records = d.Uvarint()
	copy(state.chain[:], d.Bytes(len(state.chain)))
	in.cities++
	return nil
}

func (in *snapshotReader) takeEventOrBooking(d *dems.Decoder) error {
	if in.bookings > 0 {
		return in.takeBooking(d)
	}
	key, capacity, version, err := in.readEvent(d)
	if err != nil {
		return err
	}
	in.event = &event{key: key, capacity: capacity, version: version}
	state, _ := in.machine.find(key)
	state.events[key.Type].Load(key.Order(), in.event)
	return nil
}

// readEvent reads an event without its bookings.
func (in *snapshotReader) readEvent(d *dems.Decoder) (key dems.EventKey, capacity uint32, version uint64, err error) {
	m := in.machine
	key, seats, version, bookings := d.Event(), d.Uvarint(), d.Uvarint(), d.Uvarint()
	if m.cities.Check(&dems.Command{Op: dems.GetEvent, By: dems.UserID{City: key.ID.City, Role: dems.Manager}, Event: key}) != dems.OK {
		return key, 0, 0, bad("an event with an invalid key")
	}
	if seats > dems.MaxCapacity || bookings > seats {
		return key, 0, 0, bad("%s has %d bookings and a capacity of %d", key, bookings, seats)
	}
	if last := in.key; last != (dems.EventKey{}) && !m.before(last, key) {
		return key, 0, 0, bad("%s does not stand after %s", key, last)
	}
	in.key, in.bookings, in.number = key, bookings, 0
	return key, uint32(seats), version, nil
}

// before tells whether an event stands before another in a snapshot: by city, then type, then order.
func (m *Machine) before(a, b dems.EventKey) bool {
	if a.ID.City != b.ID.City {
		return m.cities.Index(a.ID.City) < m.cities.Index(b.ID.City)
	}
	if a.Type != b.Type {
		return a.Type < b.Type
	}
	return a.Order() < b.Order()
}

func (in *snapshotReader) takeBooking(d *dems.Decoder) error {
	m := in.machine
	number, user, err := in.readBooking(d)
	if err != nil {
		return err
	}
	in.event.bookings.Load(number, user)
	c := m.customer(user)
	if c == nil {
		c = &customer{}
		m.customers.Set(user.Order(), c)
	}
	if _, replaced := c.bookings.Set(in.key.Order(), number); replaced {
		return bad("%s booked %s twice", user, in.key)
	}
	return nil
}

// readBooking reads a booking of the last event.
func (in *snapshotReader) readBooking(d *dems.Decoder) (number uint64, user dems.UserID, err error) {
	step, user := d.Uvarint(), takeUser(d)
	if !in.machine.isCustomer(user) {
		return 0, user, bad("a booking of nobody")
	}
	number = in.number + step
	if number <= in.number || number > in.machine.lastBooking {
		return 0, user, bad("a booking of %s with an impossible number", in.key)
	}
	in.number = number
	in.bookings--
	return number, user, nil
}

func (in *snapshotReader) takeCustomer(d *dems.Decoder) error {
	m := in.machine
	user, version, err := in.readCustomer(d)
	if err != nil {
		return err
	}
	c := m.customer(user)
	if c == nil {
		c = &customer{}
		m.customers.Set(user.Order(), c)
	}
	if c.version != 0 {
		return bad("%s stands twice", user)
	}
	c.version = version
	return nil
}

func (in *snapshotReader) readCustomer(d *dems.Decoder) (user dems.UserID, version uint64, err error) {
	user, version = takeUser(d), d.Uvarint()
	if !in.machine.isCustomer(user) || version == 0 {
		return user, 0, bad("an impossible customer")
	}
	return user, version, nil
}

func takeUser(d *dems.Decoder) dems.UserID {
	b := d.Bytes(6)
	if b == nil {
		return dems.UserID{}
	}
	return dems.UserID{City: dems.City(b[:3]), Role: dems.Role(b[3]), Number: binary.LittleEndian.Uint16(b[4:])}
}

// isCustomer tells whether a user is a customer of one of the cities.
func (m *Machine) isCustomer(user dems.UserID) bool {
	return m.cities.Has(user.City) && user.IsCustomer() && user.Number <= 9999
}

func (in *snapshotReader) takeKey(d *dems.Decoder) error {
	m := in.machine
	record, err := readKey(d)
	if err != nil {
		return err
	}
	if _, found := m.keys.find(keyName(record)); found || m.keys.count == m.limits.keys || m.keys.bytes > m.limits.keyBytes {
		return bad("an idempotency key too many")
	}
	m.keys.prepare(m.sessions.open)
	m.keys.push(record)
	return nil
}

// readKey reads an idempotency key and returns it in the form in which it is kept.
func readKey(d *dems.Decoder) ([]byte, error) {
	nameBytes, fingerprintBytes, time := d.Bytes(len(keyName{})), d.Bytes(8), d.Uvarint()
	result := d.Bytes(d.Count(d.Rest()))
	if nameBytes == nil || fingerprintBytes == nil || result == nil {
		return nil, bad("a truncated idempotency key")
	}
	inner := dems.NewDecoder(result)
	dems.DecodeResult(inner)
	if err := inner.Finish(); err != nil {
		return nil, bad("the result of an idempotency key: %v", err)
	}
	return appendKeyRecord(nil, keyName(nameBytes), binary.LittleEndian.Uint64(fingerprintBytes), time, result), nil
}

func (in *snapshotReader) takeSession(d *dems.Decoder) error {
	t := &in.machine.sessions
	s := session{id: d.Uvarint(), frontEnd: d.Text(dems.MaxNameBytes), used: d.Uvarint(), highest: d.Uvarint()}
	if s.id == 0 || s.used == 0 || s.used > in.machine.index || len(t.open) == in.machine.limits.sessions {
		return bad("an impossible session")
	}
	if count := len(t.open); count > 0 && t.open[count-1].id >= s.id {
		return bad("sessions out of order")
	}
	t.open = append(t.open, s)
	return nil
}

func (in *snapshotReader) takeBatch(d *dems.Decoder) error {
	s, b, err := in.readBatch(d)
	if err != nil {
		return err
	}
	in.machine.sessions.storedBytes += len(b.results)
	*s.place(b.number) = b
	return nil
}

// readBatch reads a batch and returns the session that it is one of.
func (in *snapshotReader) readBatch(d *dems.Decoder) (*session, batch, error) {
	id, number, index, length := d.Uvarint(), d.Uvarint(), d.Uvarint(), d.Count(d.Rest())
	b := batch{number: number, index: index}
	if length == 0 {
		copy(b.digest[:], d.Bytes(len(b.digest)))
	} else {
		b.results = append([]byte(nil), d.Bytes(length)...)
		b.digest = dems.DigestOf(b.results)
	}
	s := in.machine.sessions.find(id)
	if s == nil || s.tooOld(number) || number > s.highest || s.batch(number) != nil || index > s.used {
		return nil, b, bad("an impossible batch")
	}
	return s, b, nil
}

func (in *snapshotReader) takeNode(d *dems.Decoder) error {
	return in.takeRegistration(d, &in.machine.registry.nodes)
}

func (in *snapshotReader) takeFrontEnd(d *dems.Decoder) error {
	return in.takeRegistration(d, &in.machine.registry.frontEnds)
}

func (in *snapshotReader) takeRegistration(d *dems.Decoder, list *[]registration) error {
	r := registration{dems.DecodeRegistration(d), d.Uvarint()}
	count := len(*list)
	if !dems.ValidName(r.ID) || r.index == 0 || r.index > in.machine.index || count == in.machine.limits.registrations {
		return bad("an impossible registration")
	}
	if count > 0 && (*list)[count-1].ID >= r.ID {
		return bad("registrations out of order")
	}
	*list = append(*list, r)
	return nil
}
