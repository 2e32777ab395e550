package backup_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"dems"
	"dems/backup"
	"dems/fsm"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// content is what a backup holds.
type content struct {
	head  backup.Head
	state []byte
	lines map[dems.City][]byte
}

// write writes a backup, the state in one piece and the records in pieces of at least so many bytes.
func (c *content) write(to io.Writer, piece int) error {
	w, err := backup.NewWriter(to, c.head)
	if err != nil {
		return err
	}
	if _, err := w.State().Write(c.state); err != nil {
		return err
	}
	for _, named := range c.head.Cities {
		for rest := c.lines[named.City]; len(rest) > 0; {
			end := min(piece, len(rest)) - 1
			end += bytes.IndexByte(rest[end:], '\n') + 1
			if err := w.Records(named.City, rest[:end]); err != nil {
				return err
			}
			rest = rest[end:]
		}
	}
	return w.Close()
}

func (c *content) bytes(t testing.TB) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := c.write(&out, 1000); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// read reads a backup to its end.
func read(from io.Reader) (content, error) {
	r, err := backup.NewReader(from)
	if err != nil {
		return content{}, err
	}
	c := content{head: r.Head(), lines: map[dems.City][]byte{}}
	if c.state, err = io.ReadAll(r.State()); err != nil {
		return content{}, err
	}
	for {
		city, lines, err := r.Records()
		if errors.Is(err, io.EOF) {
			return c, nil
		}
		if err != nil {
			return content{}, err
		}
		c.lines[city] = append(c.lines[city], lines...)
	}
}

// log adds a city's lines to the content.
func (c *content) log(city dems.City, lines ...string) {
	log := fsm.CityLog{City: city, Records: uint64(len(lines))}
	for _, line := range lines {
		log.Chain = fsm.ChainRecord(log.Chain, []byte(line))
		c.lines[city] = append(c.lines[city], line...)
	}
	c.head.Logs = append(c.head.Logs, log)
}

// made returns a content whose state is no snapshot, which readers do not look into.
func made(state []byte) *content {
	origin := dems.Origin{Index: 812, Digest: dems.Digest{0xab, 15: 0xcd}}
	return &content{backup.Head{Origin: origin, Cities: dems.DefaultCities()}, state, map[dems.City][]byte{}}
}

// real returns the backup of a state machine that has executed something.
func real(t testing.TB) *content {
	t.Helper()
	m := fsm.New(dems.DefaultCities())
	c := &content{lines: map[dems.City][]byte{}}
	apply := func(entry dems.Entry) {
		applied, err := m.Apply(m.Index()+1, dems.AppendEntry(nil, &entry))
		if err != nil || applied.Refused != "" {
			t.Fatal(err, applied.Refused)
		}
		for _, record := range applied.Records {
			c.lines[record.City] = append(c.lines[record.City], record.Line...)
		}
	}
	when := time.UnixMilli(1_795_347_337_123)
	if _, err := m.ApplyConfiguration(1, []dems.Member{{ID: "n1", Incarnation: 1, Suffrage: dems.Voter}}); err != nil {
		t.Fatal(err)
	}
	apply(dems.Entry{Kind: dems.RegisterFrontEndEntry, Registration: dems.Registration{ID: "fe1", Session: 7, Time: when}})
	manager, _ := dems.ParseUserID("TORM0001")
	for number := range uint64(5) {
		event := dems.EventKey{Type: dems.Seminar, ID: dems.EventID{City: manager.City, Slot: dems.Morning, Date: dems.Date{Year: 30, Month: 5, Day: uint8(1 + number)}}}
		commands := []dems.Command{{Op: dems.AddEvent, By: manager, Event: event, Capacity: 3, Time: when, Key: fmt.Sprint("k", number)}}
		for customer := range uint16(4) {
			user := dems.UserID{City: dems.DefaultCities()[customer%3].City, Role: dems.Customer, Number: customer}
			commands = append(commands, dems.Command{Op: dems.BookEvent, By: user, Customer: user, Event: event, Time: when})
		}
		apply(dems.Entry{Kind: dems.BatchEntry, Batch: dems.Batch{Session: 7, Number: number + 1, Commands: commands}})
	}
	var state bytes.Buffer
	snapshot := m.Snapshot()
	if _, err := snapshot.WriteTo(&state); err != nil {
		t.Fatal(err)
	}
	c.head, c.state = backup.HeadOf(snapshot), state.Bytes()
	return c
}

// TestBytes pins the form that docs/formats.md draws.
func TestBytes(t *testing.T) {
	c := made([]byte("state"))
	c.head.Cities, _ = dems.ParseCities("TOR=Toronto")
	c.log(dems.City{'T', 'O', 'R'}, "{}\n")
	got := c.bytes(t)
	want := "44454d534241434b 01" + // DEMSBACK, version 1
		"01 2f000000 0b544f523d546f726f6e746f ac06 ab0000000000000000000000000000cd 01 " + c.head.Logs[0].Chain.String() + "CHECKSUM" +
		"02 05000000 7374617465 CHECKSUM" +
		"03 06000000 544f52 7b7d0a CHECKSUM" +
		"04"
	var shape strings.Builder
	for at := 0; at < len(got)-32; {
		end := at + 9
		if at > 0 {
			if end = at + 1; got[at] < 4 {
				end = at + 5 + int(binary.LittleEndian.Uint32(got[at+1:]))
			}
		}
		shape.WriteString(hex.EncodeToString(got[at:end]))
		if at = end; got[at-1] != 4 && end > 9 {
			shape.WriteString("CHECKSUM")
			at += 4
		}
	}
	if diff := cmp.Diff(strings.ReplaceAll(want, " ", ""), shape.String()); diff != "" {
		t.Error(diff)
	}
	if len(got) != 9+5+47+4+5+5+4+5+6+4+1+32 {
		t.Errorf("%d bytes", len(got))
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	const chunk = 256 << 10
	for _, size := range []int{1, 100, chunk - 1, chunk, chunk + 1, 3*chunk + 17} {
		c := made(bytes.Repeat([]byte{0x5a}, size))
		line := strings.Repeat("x", size%4000) + "\n"
		c.log(c.head.Cities[0].City)
		c.log(c.head.Cities[1].City, strings.Split(strings.Repeat(line, 200), "\n")[0]+"\n", line, line)
		c.log(c.head.Cities[2].City, repeated(line, 300)...)
		data := c.bytes(t)
		for how, reader := range map[string]io.Reader{"at once": bytes.NewReader(data), "in pieces": iotest.HalfReader(bytes.NewReader(data))} {
			got, err := read(reader)
			if err != nil {
				t.Fatalf("%d bytes, %s: %v", size, how, err)
			}
			if !cmp.Equal(got.head, c.head) || !bytes.Equal(got.state, c.state) {
				t.Errorf("%d bytes, %s: another head or state", size, how)
			}
			for city, lines := range c.lines {
				if !bytes.Equal(got.lines[city], lines) {
					t.Errorf("%d bytes, %s: other records of %s", size, how, city)
				}
			}
		}
		var again bytes.Buffer // in other pieces, the same bytes
		if err := c.write(&again, 70_000); err != nil || !bytes.Equal(again.Bytes(), data) {
			t.Errorf("%d bytes: written in other pieces, it is another backup (%v)", size, err)
		}
	}
}

func repeated(line string, count int) []string {
	lines := make([]string, count)
	for i := range lines {
		lines[i] = line
	}
	return lines
}

// TestAnyContentIsReadAgain writes records of any lengths.
func TestAnyContentIsReadAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := made(bytes.Repeat([]byte{7}, rapid.IntRange(1, 600_000).Draw(t, "state")))
		for _, named := range c.head.Cities {
			var lines []string
			for range rapid.IntRange(0, 20).Draw(t, "records") {
				lines = append(lines, strings.Repeat("r", rapid.IntRange(0, 65_534).Draw(t, "length"))+"\n")
			}
			c.log(named.City, lines...)
		}
		var out bytes.Buffer
		if err := c.write(&out, rapid.IntRange(1, 200_000).Draw(t, "piece")); err != nil {
			t.Fatal(err)
		}
		got, err := read(&out)
		if err != nil {
			t.Fatal(err)
		}
		if !cmp.Equal(got.head, c.head) || !bytes.Equal(got.state, c.state) {
			t.Fatal("another head or state")
		}
		for city, lines := range c.lines {
			if !bytes.Equal(got.lines[city], lines) {
				t.Fatalf("other records of %s", city)
			}
		}
	})
}

func TestVerifyTellsWhatABackupIsOf(t *testing.T) {
	c := real(t)
	data := c.bytes(t)
	head, size, err := backup.Verify(bytes.NewReader(data))
	if err != nil || size != int64(len(data)) {
		t.Fatalf("%d of %d bytes: %v", size, len(data), err)
	}
	if diff := cmp.Diff(c.head, head); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(c.head.Origin.String(), c.head.Origin.Digest.String()) || c.head.Logs[2].Records == 0 {
		t.Errorf("%+v", c.head)
	}
}

// TestRecordsPassOverTheState leaves the state unread.
func TestRecordsPassOverTheState(t *testing.T) {
	c := real(t)
	r, err := backup.NewReader(bytes.NewReader(c.bytes(t)))
	if err != nil {
		t.Fatal(err)
	}
	city, lines, err := r.Records()
	if err != nil || city != c.head.Cities[0].City || !bytes.Equal(lines, c.lines[city]) {
		t.Errorf("%s: %q, %v", city, lines, err)
	}
}

func TestWriterRefusesWhatIsNoBackup(t *testing.T) {
	city, other := dems.DefaultCities()[0].City, dems.DefaultCities()[1].City
	for name, test := range map[string]struct {
		do   func(w *backup.Writer) error
		want string
	}{
		"no state":            {func(w *backup.Writer) error { return w.Close() }, "no state"},
		"records first":       {func(w *backup.Writer) error { return w.Records(city, []byte("a\n")) }, "the state comes before"},
		"records are missing": {func(w *backup.Writer) error { w.State().Write([]byte("s")); return w.Close() }, "has 0 records"},
		"state after records": {func(w *backup.Writer) error {
			w.State().Write([]byte("s"))
			w.Records(city, []byte("a\n"))
			_, err := w.State().Write([]byte("t"))
			return err
		}, "the state comes before"},
		"other records": {func(w *backup.Writer) error {
			w.State().Write([]byte("s"))
			w.Records(city, []byte("x\nb\n"))
			return w.Records(other, []byte("a\n"))
		}, "chain digest"},
		"one record more": {func(w *backup.Writer) error {
			w.State().Write([]byte("s"))
			return w.Records(city, []byte("a\nb\nc\n"))
		}, "more than 2"},
		"no line": {func(w *backup.Writer) error { w.State().Write([]byte("s")); return w.Records(city, []byte("a\nb")) }, "no line"},
		"a line too long": {func(w *backup.Writer) error {
			w.State().Write([]byte("s"))
			return w.Records(city, []byte(strings.Repeat("a", 65536)+"\n"))
		}, "no line"},
		"no city of ours": {func(w *backup.Writer) error {
			w.State().Write([]byte("s"))
			return w.Records(dems.City{'X', 'X', 'X'}, []byte("a\n"))
		}, "has 0 records"},
		"closed": {func(w *backup.Writer) error {
			w.State().Write([]byte("s"))
			w.Records(city, []byte("a\nb\n"))
			w.Close()
			return w.Close()
		}, "closed"},
	} {
		c := made(nil)
		c.log(city, "a\n", "b\n")
		c.log(other)
		c.log(dems.DefaultCities()[2].City)
		w, err := backup.NewWriter(io.Discard, c.head)
		if err != nil {
			t.Fatal(err)
		}
		if err := test.do(w); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, test.want)
		}
	}
}

// TestWriteErrorsArePassedOn has the disk be full after every so many bytes.
func TestWriteErrorsArePassedOn(t *testing.T) {
	c := real(t)
	size := len(c.bytes(t))
	for left := 0; left < size; left += 7 {
		if err := c.write(&fullDisk{left}, 1000); !errors.Is(err, errFull) {
			t.Fatalf("full after %d bytes: %v", left, err)
		}
	}
}

var errFull = errors.New("the disk is full")

// fullDisk takes so many bytes and then fails.
type fullDisk struct{ left int }

func (d *fullDisk) Write(data []byte) (int, error) {
	count := min(len(data), d.left)
	if d.left -= count; count < len(data) {
		return count, errFull
	}
	return count, nil
}
