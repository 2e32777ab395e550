package fsm

import (
	"bytes"
	"encoding/binary"

	"dems"
)

// applyBatch applies a batch of an open session, unless it was applied before or is too old.
func (m *Machine) applyBatch(b *dems.Batch, applied *Applied) {
	applied.Session, applied.Batch = b.Session, b.Number
	s := m.sessions.find(b.Session)
	switch {
	case s == nil || s.tooOld(b.Number):
	case s.batch(b.Number) == nil:
		m.execute(b.Commands, applied)
		applied.ResultDigest = dems.DigestOf(applied.Results)
		m.storeBatch(s, b.Number, applied.Results, applied.ResultDigest)
		return
	default:
		applied.Results = s.batch(b.Number).results
	}
	if applied.Results == nil {
		applied.Results = dems.AppendResults(nil, nil)
	}
	applied.ResultDigest = dems.DigestOf(applied.Results)
}

// execute executes the commands of a batch in their order.
func (m *Machine) execute(commands []dems.Command, applied *Applied) {
	applied.Commands = len(commands)
	results := binary.AppendUvarint(m.scratch.results[:0], uint64(len(commands)))
	m.scratch.lines = make([]byte, 0, recordBytes*len(commands))
	for i := range commands {
		command, result := &commands[i], &m.scratch.result
		*result = dems.Result{Sequence: m.index}
		m.clock = max(m.clock, milliseconds(command))
		if len(results) > m.limits.resultBytes {
			result.Code = dems.Unavailable
			results = dems.AppendResult(results, result)
			continue
		}
		results = m.executeOne(command, result, results)
		if command.Op.Mutates() && !result.Replayed {
			m.record(command, result)
		}
	}
	m.expireKeys()
	applied.Results = bytes.Clone(results)
	applied.Records = m.takeRecords()
	m.scratch.results = results[:0]
	m.scratch.trim()
}

func milliseconds(command *dems.Command) uint64 { return uint64(max(0, command.Time.UnixMilli())) }

// executeOne executes one command. It fills result in and appends it to results. A request whose syntax is wrong is not
// stored under its key; every other one is, whether refused or done.
func (m *Machine) executeOne(command *dems.Command, result *dems.Result, results []byte) []byte {
	if result.Code = m.cities.Check(command); result.Code != dems.OK {
		return dems.AppendResult(results, result)
	}
	if command.Key == "" || !command.Op.Mutates() {
		m.operate(command, result)
		return dems.AppendResult(results, result)
	}
	name, fingerprint := nameOfKey(command.By, command.Key), fingerprintOf(command)
	if stored, found := m.keys.find(name); found {
		m.replay(stored, fingerprint, result)
		return dems.AppendResult(results, result)
	}
	m.operate(command, result)
	start := len(results)
	results = dems.AppendResult(results, result)
	m.storeKey(name, fingerprint, results[start:])
	return results
}

// replay answers a request whose key was used before.
func (m *Machine) replay(stored keyRecord, fingerprint uint64, result *dems.Result) {
	if stored.fingerprint != fingerprint {
		result.Code = dems.IdempotencyKeyReused
		return
	}
	decoder := dems.NewDecoder(stored.result)
	*result = dems.DecodeResult(decoder)
	result.Replayed = true
	if err := decoder.Finish(); err != nil {
		m.fail("stored result of a key: %v", err)
	}
}

// span is a line in scratch.lines and where it goes.
type span struct {
	city       dems.City
	number     uint64
	start, end int
}

// record writes a command and its result into the logs of the cities that they concern.
func (m *Machine) record(command *dems.Command, result *dems.Result) {
	start := len(m.scratch.lines)
	m.scratch.lines = AppendRecord(m.scratch.lines, command, result)
	end := len(m.scratch.lines)
	line := lineHash(m.scratch.lines[start:end])
	var buffer [3]dems.City
	for _, city := range RecordCities(buffer[:0], m.cities, command, result.Code) {
		state := m.state(city)
		m.scratch.spans = append(m.scratch.spans, span{city, state.records, start, end})
		state.records++
		state.chain = chainLine(state.chain, line)
		state.changed = true
	}
}

// takeRecords returns the records of the entry, which share one piece of memory.
func (m *Machine) takeRecords() []Record {
	lines, spans := m.scratch.lines, m.scratch.spans
	m.scratch.lines, m.scratch.spans = nil, spans[:0]
	records := make([]Record, len(spans))
	for i, at := range spans {
		records[i] = Record{City: at.city, Number: at.number, Line: lines[at.start:at.end:at.end]}
	}
	return records
}

// recordBytes is how much memory is set aside for each record: it holds most.
const recordBytes = 320

// scratch is memory that one Apply leaves to the next. It is no part of the state.
type scratch struct {
	results, lines, key []byte
	result              dems.Result
	spans               []span
}

// trim gives back what one unusually large entry needed.
func (s *scratch) trim() {
	const largest = 1 << 20
	for _, buffer := range []*[]byte{&s.results, &s.key} {
		if cap(*buffer) > largest {
			*buffer = nil
		}
	}
	s.result = dems.Result{}
}
