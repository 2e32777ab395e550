package backup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"dems"
	"dems/fsm"
)

const (
	magic         = "DEMSBACK"
	version       = 1
	chunkBytes    = 256 << 10 // the state's chunks have exactly that many bytes, except the last; those of records at most
	headBytes     = 16 << 10  // more than MaxCities of the longest names need
	lineBytes     = 64 << 10  // a record of a city log is shorter
	chunkHead     = 5         // kind, length
	checksumBytes = 4
)

// kind says what a chunk holds. Chunks stand in the order of their kinds.
type kind byte

const (
	headKind    kind = iota + 1 // one
	stateKind                   // pieces of a snapshot
	recordsKind                 // a city and whole lines of its log
	trailerKind                 // no chunk: the checksum of everything before follows, and nothing else
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrDamaged is the cause when something is not a whole backup as it was written.
var ErrDamaged = errors.New("damaged backup")

func damaged(format string, arguments ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, arguments...))
}

// Head says what a backup is of.
type Head struct {
	Origin dems.Origin
	Cities dems.Cities
	Logs   []fsm.CityLog // in the order of the cities
}

// HeadOf returns the head of a backup of a snapshot.
func HeadOf(snapshot *fsm.Snapshot) Head {
	return Head{Origin: snapshot.Origin(), Cities: snapshot.Cities(), Logs: snapshot.Logs()}
}

// append appends the binary form of the head.
func (h *Head) append(dst []byte) []byte {
	dst = dems.AppendOrigin(dems.AppendText(dst, h.Cities.String()), h.Origin)
	for i := range h.Logs {
		dst = append(binary.AppendUvarint(dst, h.Logs[i].Records), h.Logs[i].Chain[:]...)
	}
	return dst
}

func decodeHead(data []byte) (Head, error) {
	d := dems.NewDecoder(data)
	text := d.Text(headBytes)
	head := Head{Origin: dems.DecodeOrigin(d)}
	if err := d.Err(); err != nil {
		return Head{}, damaged("its head: %v", err)
	}
	var err error
	if head.Cities, err = dems.ParseCities(text); err != nil || head.Cities.String() != text || head.Origin.Index == 0 {
		return Head{}, damaged("its head names the cities %.100q and index %d", text, head.Origin.Index)
	}
	for i := range head.Cities {
		log := fsm.CityLog{City: head.Cities[i].City, Records: d.Uvarint()}
		copy(log.Chain[:], d.Bytes(len(log.Chain)))
		head.Logs = append(head.Logs, log)
	}
	if err := d.Finish(); err != nil {
		return Head{}, damaged("its head: %v", err)
	}
	return head, nil
}

// progress is how far the records of the city logs have come.
type progress struct {
	logs []fsm.CityLog // as they have to be in the end
	at   int           // the log that records are added to
	done fsm.CityLog   // of it
}

// lines adds whole lines to a city's log. Earlier cities' logs have to be complete by then.
func (p *progress) lines(city dems.City, lines []byte) error {
	for p.at < len(p.logs) && p.logs[p.at].City != city {
		if err := p.next(); err != nil {
			return err
		}
	}
	if p.at == len(p.logs) {
		return fmt.Errorf("records of %s, which is no city here, or whose log was complete", city)
	}
	for len(lines) > 0 {
		line := firstLine(lines)
		if line == nil {
			return fmt.Errorf("record %d of %s is no line", p.done.Records, city)
		}
		if p.done.Records == p.logs[p.at].Records {
			return fmt.Errorf("the log of %s has more than %d records", city, p.done.Records)
		}
		p.done.Records++
		p.done.Chain = fsm.ChainRecord(p.done.Chain, line)
		lines = lines[len(line):]
	}
	return nil
}

// next makes sure that the log is complete and goes on with the next one.
func (p *progress) next() error {
	want := p.logs[p.at]
	if p.done.Records != want.Records || p.done.Chain != want.Chain {
		return fmt.Errorf("the log of %s has %d records with chain digest %s, not %d with %s", want.City, p.done.Records,
			p.done.Chain, want.Records, want.Chain)
	}
	p.at++
	p.done = fsm.CityLog{}
	return nil
}

// finish makes sure that all logs are complete.
func (p *progress) finish() error {
	for p.at < len(p.logs) {
		if err := p.next(); err != nil {
			return err
		}
	}
	return nil
}

// firstLine returns the first line with its line feed, nil where there is none that is whole and of a size that records have.
func firstLine(lines []byte) []byte {
	for i, c := range lines[:min(len(lines), lineBytes)] {
		if c == '\n' {
			return lines[:i+1]
		}
	}
	return nil
}
