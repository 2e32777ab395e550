package dems_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dems"
)

func TestEntryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entry := drawEntry(t)
		data := dems.AppendEntry([]byte("before"), &entry)[len("before"):]
		decoded, err := dems.DecodeEntry(data)
		if err != nil || !reflect.DeepEqual(decoded, entry) {
			t.Fatalf("%+v comes back as %+v, %v", entry, decoded, err)
		}
	})
}

func TestResultsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		results := list(t, "results", drawResult)
		decoded, err := dems.DecodeResults(dems.AppendResults(nil, results))
		if err != nil || len(decoded) != len(results) || len(results) > 0 && !reflect.DeepEqual(decoded, results) {
			t.Fatalf("%+v come back as %+v, %v", results, decoded, err)
		}
	})
}

func TestRegistryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		registry := drawRegistry(t)
		decoded, err := dems.DecodeRegistry(dems.AppendRegistry(nil, &registry))
		if err != nil || !reflect.DeepEqual(decoded, registry) {
			t.Fatalf("%+v comes back as %+v, %v", registry, decoded, err)
		}
	})
}

// TestEntryBytes pins the format: what an earlier version wrote to disk has to be read by later ones.
func TestEntryBytes(t *testing.T) {
	command, err := cities.Parse(dems.Request{
		Op: "swapEvent", By: "TORM2345", CustomerID: "TORC0001", Key: "k", NewEventID: "MTLA110519", NewEventType: "conference",
		OldEventID: "TORM100519", OldEventType: "seminar",
	})
	if err != nil {
		t.Fatal(err)
	}
	command.Time = time.UnixMilli(1_557_500_000_000)
	batch := dems.Entry{Kind: dems.BatchEntry, Batch: dems.Batch{Session: 300, Number: 1, Commands: []dems.Command{command}}}
	node := dems.Entry{Kind: dems.RegisterNodeEntry, Registration: dems.Registration{
		ID: "n1", Address: "h:1", Version: "v", Time: time.UnixMilli(1), Incarnation: 2, Cities: "TOR=Toronto",
	}}
	verdict := dems.Entry{Kind: dems.VerdictEntry, Verdict: dems.Verdict{
		Node: "n2", Incarnation: 300, By: "n1", ByIncarnation: 2, Index: 7, Expected: "x", Answered: "yz", Time: time.UnixMilli(1),
	}}
	incident := dems.Entry{Kind: dems.IncidentEntry, Incident: dems.Incident{
		Sequence: 99, Kind: dems.NoMajorityIncident, Time: time.UnixMilli(1), Node: "n2", Incarnation: 300, By: "fe1", Index: 7,
		Expected: "x", Answered: "yz", Detail: "d",
	}}
	replacement := dems.Entry{Kind: dems.ReplacementEntry, Replacement: dems.Replacement{
		Node: "n2", Incarnation: 300, By: "fe1", Cause: "c", Automatic: true, Time: time.UnixMilli(1),
	}}
	restore := dems.Entry{Kind: dems.RestoreEntry, Origin: dems.Origin{Index: 300, Digest: dems.Digest{1, 2, 15: 255}}}
	for _, test := range []struct {
		entry *dems.Entry
		want  string
	}{
		{&batch, "0101 ac02 01 01 07 80eeef91aa2d 544f524d2909 016b 544f52430100 01 4d544c 02 13050b 02 544f52 01 13050a"},
		{&node, "0102 026e31 03683a31 0176 01 02 00 0b544f523d546f726f6e746f"},
		{&verdict, "0104 026e32 ac02 026e31 02 07 0178 02797a 01"},
		{&incident, "0105 0a 01 026e32 ac02 03666531 07 0178 02797a 0164"},
		{&replacement, "0106 026e32 ac02 03666531 0163 01 01"},
		{&restore, "0107 ac02 010200000000000000000000000000ff"},
	} {
		want, err := hex.DecodeString(strings.ReplaceAll(test.want, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		want = binary.LittleEndian.AppendUint32(want, crc32.Checksum(want, crc32.MakeTable(crc32.Castagnoli)))
		if got := dems.AppendEntry(nil, test.entry); !bytes.Equal(got, want) {
			t.Errorf("got  %x\nwant %x", got, want)
		}
	}
}

func TestResultBytes(t *testing.T) {
	customer, _ := dems.ParseUserID("TORC0001")
	results := []dems.Result{
		{Code: dems.EventFull, Sequence: 7},
		{Outcome: dems.Booked, Replayed: true, Sequence: 300, Customer: customer,
			Booking: dems.EventKey{Type: dems.Seminar, ID: mustEventID(t, "TORM100519")}},
	}
	if got, want := hex.EncodeToString(dems.AppendResults(nil, results)), "02"+"1200000700"+"000415"+"ac02"+"00"+"02544f520113050a"+"544f52430100"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestEntryRefusesDamage shows that no truncation and no flipped bit of an entry goes unnoticed.
func TestEntryRefusesDamage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entry := drawEntry(t)
		data := dems.AppendEntry(nil, &entry)
		cut := rapid.IntRange(0, len(data)-1).Draw(t, "cut")
		expectMalformed(t, data[:cut], "truncated to %d of %d bytes", cut, len(data))
		bit := rapid.IntRange(0, len(data)*8-1).Draw(t, "bit")
		flipped := bytes.Clone(data)
		flipped[bit/8] ^= 1 << (bit % 8)
		expectMalformed(t, flipped, "bit %d flipped", bit)
		expectMalformed(t, append(bytes.Clone(data), 0), "a byte more")
	})
}

func expectMalformed(t *rapid.T, data []byte, format string, arguments ...any) {
	if _, err := dems.DecodeEntry(data); !errors.Is(err, dems.ErrMalformed) {
		t.Fatalf("%s: %v", fmt.Sprintf(format, arguments...), err)
	}
}

// seal puts an entry's version in front of a kind and payload, and the checksum behind.
func seal(payload ...byte) []byte {
	data := append([]byte{1}, payload...)
	return binary.LittleEndian.AppendUint32(data, crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
}

// TestEntryRefusesWhatEncodersNeverWrite gives the decoder entries whose checksum is right and whose content is not.
func TestEntryRefusesWhatEncodersNeverWrite(t *testing.T) {
	schedule := []byte("\x05\x01TORM\x01\x00\x00TORC\x01\x00") // getBookingSchedule at 1 ms
	add := []byte("\x01\x01TORM\x01\x00\x00\x02TOR\x01\x13\x05\x0a\x03")
	remove := []byte("\x02\x01TORM\x01\x00\x00\x02TOR\x01\x13\x05\x0a\x00")
	batch := func(header string, commands ...[]byte) []byte {
		return seal(append([]byte(header), bytes.Join(commands, nil)...)...)
	}
	change := func(command []byte, at int, to ...byte) []byte {
		return append(append(bytes.Clone(command[:at]), to...), command[at+1:]...)
	}
	for name, test := range map[string]struct {
		data []byte
		want string
	}{
		"valid batch":           {batch("\x01\x01\x01\x03", schedule, add, remove), ""},
		"valid node":            {batch("\x02\x02n1\x00\x00\x00\x00\x00\x00"), ""},
		"valid front end":       {batch("\x03\x02fe\x00\x00\x00\x00\x01\x00"), ""},
		"nothing":               {nil, "too short"},
		"another version":       {append([]byte{2}, batch("\x01\x01\x01\x01", schedule)[1:]...), "version"},
		"no kind":               {seal(), "too short"},
		"kind 0":                {batch("\x00\x01\x01\x01", schedule), "unknown kind"},
		"kind 8":                {batch("\x08\x01\x01\x01", schedule), "unknown kind"},
		"session 0":             {batch("\x01\x00\x01\x01", schedule), "without a session"},
		"number 0":              {batch("\x01\x01\x00\x01", schedule), "without a session or a number"},
		"no command":            {batch("\x01\x01\x01\x00"), "empty batch"},
		"one command too few":   {batch("\x01\x01\x01\x02", schedule), "truncated"},
		"one command too many":  {batch("\x01\x01\x01\x01", schedule, schedule), "trailing data"},
		"513 commands":          {batch("\x01\x01\x01\x81\x04", bytes.Repeat(schedule, 513)), "too many"},
		"long varint":           {batch("\x01\x81\x00\x01\x01", schedule), "bad varint"},
		"endless varint":        {batch("\x01" + strings.Repeat("\xff", 11)), "bad varint"},
		"varint beyond 64 bits": {batch("\x01" + strings.Repeat("\xff", 9) + "\x02"), "bad varint"},
		"operation 0":           {batch("\x01\x01\x01\x01", change(schedule, 0, 0)), "unknown operation"},
		"operation 9":           {batch("\x01\x01\x01\x01", change(schedule, 0, 9)), "unknown operation"},
		"time beyond 47 bits":   {batch("\x01\x01\x01\x01", change(schedule, 1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20)), "time"},
		"key of 129 bytes":      {batch("\x01\x01\x01\x01", change(schedule, 8, append([]byte{0x81, 1}, bytes.Repeat([]byte("k"), 129)...)...)), "too many"},
		"key beyond the end":    {batch("\x01\x01\x01\x01", change(schedule, 8, 100)), "truncated"},
		"capacity 1000001":      {batch("\x01\x01\x01\x01", change(add, len(add)-1, 0xc1, 0x84, 0x3d)), "capacity"},
		"policy 3":              {batch("\x01\x01\x01\x01", change(remove, len(remove)-1, 3)), "policy"},
		"no ID":                 {batch("\x02\x00\x00\x00\x00\x00\x00\x00"), "valid ID"},
		"path as ID":            {batch("\x02\x04../n\x00\x00\x00\x00\x00\x00"), "valid ID"},
		"front end, session 0":  {batch("\x03\x02fe\x00\x00\x00\x00\x00\x00"), "without a session"},
		"address of 256 bytes":  {batch("\x02\x02n1\x80\x02" + strings.Repeat("a", 256) + "\x00\x00\x00\x00\x00"), "too many"},
		"larger than any":       {make([]byte, dems.MaxEntryBytes+1), "at most"},
		"valid verdict":         {batch("\x04\x02n2\x01\x02n1\x01\x00\x00\x00\x01"), ""},
		"verdict on nobody":     {batch("\x04\x00\x01\x02n1\x01\x00\x00\x00\x01"), "node ID"},
		"verdict of nobody":     {batch("\x04\x02n2\x01\x02N1\x01\x00\x00\x00\x01"), "node ID"},
		"verdict on number 0":   {batch("\x04\x02n2\x00\x02n1\x01\x00\x00\x00\x01"), "incarnations"},
		"verdict of number 0":   {batch("\x04\x02n2\x01\x02n1\x00\x00\x00\x00\x01"), "incarnations"},
		"verdict, long text":    {batch("\x04\x02n2\x01\x02n1\x01\x00\x81\x02" + strings.Repeat("x", 257) + "\x00\x01"), "too many"},
		"verdict, cut":          {batch("\x04\x02n2\x01\x02n1\x01\x00\x00\x00"), "bad varint"},
		"verdict, longer":       {batch("\x04\x02n2\x01\x02n1\x01\x00\x00\x00\x01\x00"), "trailing"},
		"valid incident":        {batch("\x05\x01\x00\x00\x00\x00\x00\x00\x00\x00"), ""},
		"incident of no kind":   {batch("\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00"), "kind of incident"},
		"incident of kind 11":   {batch("\x05\x0b\x00\x00\x00\x00\x00\x00\x00\x00"), "kind of incident"},
		"incident of a path":    {batch("\x05\x01\x00\x02..\x00\x00\x00\x00\x00\x00"), "node ID"},
		"incident, long detail": {batch("\x05\x01\x00\x00\x00\x00\x00\x00\x00\x81\x02" + strings.Repeat("x", 257)), "too many"},
		"valid replacement":     {batch("\x06\x02n2\x01\x03fe1\x00\x01\x01"), ""},
		"replacement of nobody": {batch("\x06\x00\x01\x03fe1\x00\x01\x01"), "node ID"},
		"replacement, number 0": {batch("\x06\x02n2\x00\x03fe1\x00\x01\x01"), "without an incarnation"},
		"replacement, flag 2":   {batch("\x06\x02n2\x01\x03fe1\x00\x02\x01"), "flag"},
		"replacement, by long":  {batch("\x06\x02n2\x01\x80\x02" + strings.Repeat("x", 256) + "\x00\x01\x01"), "too many"},
		"valid restoration":     {batch("\x07\x01" + strings.Repeat("x", 16)), ""},
		"restored from nothing": {batch("\x07\x00" + strings.Repeat("x", 16)), "nothing"},
		"restoration, cut":      {batch("\x07\x01" + strings.Repeat("x", 15)), "truncated"},
	} {
		_, err := dems.DecodeEntry(test.data)
		if test.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		} else if !errors.Is(err, dems.ErrMalformed) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, test.want)
		}
	}
}

func TestResultsRefuseWhatEncodersNeverWrite(t *testing.T) {
	event := "\x02TOR\x01\x13\x05\x0a"
	for name, test := range map[string]struct{ data, want string }{
		"none":                      {"\x00", ""},
		"one":                       {"\x01\x00\x04\x00\x07\x00", ""},
		"nothing":                   {"", "bad varint"},
		"one, missing":              {"\x01", "truncated"},
		"one, cut":                  {"\x01\x00\x04\x00\x07", "truncated"},
		"513":                       {"\x81\x04" + strings.Repeat("\x00\x00\x00\x00\x00", 513), "too many"},
		"trailing":                  {"\x01\x00\x04\x00\x07\x00\x00", "trailing"},
		"unknown code":              {"\x01\x1e\x00\x00\x07\x00", "unknown code"},
		"unknown outcome":           {"\x01\x00\x08\x00\x07\x00", "outcome"},
		"unknown type":              {"\x01\x00\x00\x00\x07\x04", "event type"},
		"event that is empty":       {"\x01\x00\x01\x02\x07\x00" + strings.Repeat("\x00", 10), "empty event"},
		"booking that is empty":     {"\x01\x00\x04\x04\x07\x00" + strings.Repeat("\x00", 8), "empty booking"},
		"old event that is empty":   {"\x01\x00\x04\x08\x07\x00" + strings.Repeat("\x00", 8), "empty old"},
		"customer that is empty":    {"\x01\x00\x04\x10\x07\x00" + strings.Repeat("\x00", 6), "empty customer"},
		"more booked than capacity": {"\x01\x00\x01\x02\x07\x00" + event + "\x01\x02", "impossible capacity"},
		"capacity 1000001":          {"\x01\x00\x01\x02\x07\x00" + event + "\xc1\x84\x3d\x02", "impossible capacity"},
		"affected, none":            {"\x01\x00\x03\x20\x07\x00\x00", "empty list"},
		"affected, another outcome": {"\x01\x00\x03\x20\x07\x00\x01TORC\x01\x00\x04", "outcome of a booking"},
		"affected, cut":             {"\x01\x00\x03\x20\x07\x00\x01TORC\x01\x00", "truncated"},
		"events, none":              {"\x01\x00\x00\x40\x07\x00\x00", "empty list"},
		"events, too few":           {"\x01\x00\x00\x40\x07\x00\x02" + event + "\x02\x01", "too many"},
		"bookings, none":            {"\x01\x00\x00\x80\x07\x00\x00", "empty list"},
		"bookings, too few":         {"\x01\x00\x00\x80\x07\x00\x02" + event, "too many"},
		"a billion events":          {"\x01\x00\x00\x40\x07\x00\x80\x94\xeb\xdc\x03", "too many"},
	} {
		_, err := dems.DecodeResults([]byte(test.data))
		if test.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		} else if !errors.Is(err, dems.ErrMalformed) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, test.want)
		}
	}
}

func TestRegistryRefusesWhatEncodersNeverWrite(t *testing.T) {
	text := func(cities string) string { return string(dems.AppendText(nil, cities)) }
	for name, test := range map[string]struct{ data, want string }{
		"empty registry":   {text("TOR=Toronto") + "\x00\x00", ""},
		"nothing":          {"", "bad varint"},
		"no cities":        {text("") + "\x00\x00", "three letters"},
		"cities unsorted":  {text("TOR=Toronto,MTL=Montreal") + "\x00\x00", "canonical"},
		"cities in spaces": {text(" TOR=Toronto") + "\x00\x00", "canonical"},
		"lower case":       {text("tor=Toronto") + "\x00\x00", "canonical"},
		"cities too long":  {"\xff\xff\x03", "too many"},
		"257 nodes":        {text("TOR=Toronto") + "\x81\x02", "too many"},
		"missing node":     {text("TOR=Toronto") + "\x01", "bad varint"},
		"trailing":         {text("TOR=Toronto") + "\x00\x00\x00", "trailing"},
	} {
		_, err := dems.DecodeRegistry([]byte(test.data))
		if test.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		} else if !errors.Is(err, dems.ErrMalformed) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, test.want)
		}
	}
}

// TestLargestEntryFits shows that the limits agree: the largest batch of the largest commands is a legal entry.
func TestLargestEntryFits(t *testing.T) {
	entry := batchOf(t, dems.MaxBatchCommands, dems.Request{
		Op: "swapEvent", By: "TORM9999", CustomerID: "TORC9999", NewEventID: "MTLA110519", NewEventType: "conference",
		OldEventID: "TORM100519", OldEventType: "seminar", Key: strings.Repeat("k", dems.MaxKeyBytes),
	})
	entry.Batch.Session, entry.Batch.Number = 1<<64-1, 1<<64-1
	for i := range entry.Batch.Commands {
		entry.Batch.Commands[i].Time = time.UnixMilli(1<<47 - 1)
	}
	data := dems.AppendEntry(nil, &entry)
	if _, err := dems.DecodeEntry(data); err != nil || len(data) > dems.MaxEntryBytes {
		t.Errorf("%d bytes: %v", len(data), err)
	}
}

// TestTimeIsKeptToTheMillisecond covers times that have no binary form of their own.
func TestTimeIsKeptToTheMillisecond(t *testing.T) {
	for _, test := range []struct{ in, want time.Time }{
		{time.Time{}, time.UnixMilli(0)},
		{time.Date(1969, 12, 31, 23, 59, 59, 0, time.UTC), time.UnixMilli(0)},
		{time.Date(2026, 7, 1, 12, 0, 0, 123_999_999, time.FixedZone("", 7200)), time.Date(2026, 7, 1, 10, 0, 0, 123_000_000, time.UTC)},
	} {
		entry := batchOf(t, 1, dems.Request{Op: "getBookingSchedule", By: "TORM0001", CustomerID: "TORC0001"})
		entry.Batch.Commands[0].Time = test.in
		decoded, err := dems.DecodeEntry(dems.AppendEntry(nil, &entry))
		if err != nil {
			t.Fatal(err)
		}
		if got := decoded.Batch.Commands[0].Time; !got.Equal(test.want) || got.Location() != time.UTC {
			t.Errorf("%v comes back as %v", test.in, got)
		}
	}
}

// TestDecodersAllocateNoMoreThanTheyRead gives decoders short data that announces much.
func TestDecodersAllocateNoMoreThanTheyRead(t *testing.T) {
	const mostBytes = 4096
	for name, decode := range map[string]func() error{
		"entry": func() error {
			_, err := dems.DecodeEntry(seal([]byte("\x01\x01\x01\x80\x04")...))
			return err
		},
		"results": func() error {
			_, err := dems.DecodeResults([]byte("\x80\x04"))
			return err
		},
		"events": func() error {
			_, err := dems.DecodeResults([]byte("\x01\x00\x00\x40\x07\x00\xff\xff\xff\xff\x0f"))
			return err
		},
		"registry": func() error {
			_, err := dems.DecodeRegistry([]byte("\x0bTOR=Toronto\x80\x02"))
			return err
		},
		"incidents": func() error {
			_, err := dems.DecodeIncidents([]byte("\x80\x08"))
			return err
		},
	} {
		const rounds = 100
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range rounds {
			if decode() == nil {
				t.Fatalf("%s: accepted", name)
			}
		}
		runtime.ReadMemStats(&after)
		if got := (after.TotalAlloc - before.TotalAlloc) / rounds; got > mostBytes {
			t.Errorf("%s: %d bytes allocated", name, got)
		}
	}
}

// TestDecodedSharesNothing overwrites the data after decoding.
func TestDecodedSharesNothing(t *testing.T) {
	entry := batchOf(t, 1, dems.Request{Op: "getBookingSchedule", By: "TORM0001", CustomerID: "TORC0001", Key: "key"})
	data := dems.AppendEntry(nil, &entry)
	decoded, err := dems.DecodeEntry(data)
	if err != nil {
		t.Fatal(err)
	}
	clear(data)
	if decoded.Batch.Commands[0].Key != "key" {
		t.Errorf("the key became %q", decoded.Batch.Commands[0].Key)
	}
}

func batchOf(t testing.TB, count int, request dems.Request) dems.Entry {
	t.Helper()
	command, err := cities.Parse(request)
	if err != nil {
		t.Fatal(err)
	}
	command.Time = time.UnixMilli(1_557_500_000_000)
	entry := dems.Entry{Kind: dems.BatchEntry, Batch: dems.Batch{Session: 1, Number: 1}}
	for range count {
		entry.Batch.Commands = append(entry.Batch.Commands, command)
	}
	return entry
}

// FuzzEntry shows that what decodes encodes to the same bytes again, so that there is one form of each entry.
func FuzzEntry(f *testing.F) {
	rapid.Check(f, func(t *rapid.T) {
		entry := drawEntry(t)
		f.Add(dems.AppendEntry(nil, &entry)[1:])
	})
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) >= 4 { // a right checksum, so that more than the checksum is looked at
			payload = payload[:len(payload)-4]
		}
		data := seal(payload...)
		entry, err := dems.DecodeEntry(data)
		if err != nil {
			if !errors.Is(err, dems.ErrMalformed) {
				t.Errorf("%x: %v", data, err)
			}
			return
		}
		if again := dems.AppendEntry(nil, &entry); !bytes.Equal(again, data) {
			t.Errorf("%x encodes as %x", data, again)
		}
		for i := range entry.Batch.Commands { // whatever decodes can be checked and printed
			command := &entry.Batch.Commands[i]
			result := dems.Result{Code: cities.Check(command)}
			if describe(*command) == "" || result.Code == dems.OK && result.Text(command) == "" {
				t.Errorf("%+v prints as nothing", command)
			}
		}
	})
}

// FuzzResults shows the same for results.
func FuzzResults(f *testing.F) {
	rapid.Check(f, func(t *rapid.T) { f.Add(dems.AppendResults(nil, list(t, "results", drawResult))) })
	f.Fuzz(func(t *testing.T, data []byte) {
		results, err := dems.DecodeResults(data)
		if err != nil {
			if !errors.Is(err, dems.ErrMalformed) {
				t.Errorf("%x: %v", data, err)
			}
			return
		}
		if again := dems.AppendResults(nil, results); !bytes.Equal(again, data) {
			t.Errorf("%x encodes as %x", data, again)
		}
	})
}

// FuzzRegistry shows the same for registries.
func FuzzRegistry(f *testing.F) {
	rapid.Check(f, func(t *rapid.T) {
		registry := drawRegistry(t)
		f.Add(dems.AppendRegistry(nil, &registry))
	})
	f.Fuzz(func(t *testing.T, data []byte) {
		registry, err := dems.DecodeRegistry(data)
		if err != nil {
			if !errors.Is(err, dems.ErrMalformed) {
				t.Errorf("%x: %v", data, err)
			}
			return
		}
		if again := dems.AppendRegistry(nil, &registry); !bytes.Equal(again, data) {
			t.Errorf("%x encodes as %x", data, again)
		}
	})
}

func benchmarkEntry(b *testing.B) dems.Entry {
	return batchOf(b, dems.MaxBatchCommands, dems.Request{
		Op: "bookEvent", By: "TORC0001", CustomerID: "TORC0001", EventID: "MTLA110519", EventType: "conference",
	})
}

func BenchmarkEncodeBatch(b *testing.B) {
	entry := benchmarkEntry(b)
	data := dems.AppendEntry(nil, &entry)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		data = dems.AppendEntry(data[:0], &entry)
	}
}

func BenchmarkDecodeBatch(b *testing.B) {
	entry := benchmarkEntry(b)
	data := dems.AppendEntry(nil, &entry)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := dems.DecodeEntry(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkResults(b *testing.B) {
	customer, _ := dems.ParseUserID("TORC0001")
	event, _ := dems.ParseEventID("MTLA110519")
	results := make([]dems.Result, dems.MaxBatchCommands)
	for i := range results {
		results[i] = dems.Result{
			Outcome: dems.Booked, Sequence: 1 << 20, Customer: customer, Booking: dems.EventKey{Type: dems.Conference, ID: event},
		}
	}
	data := dems.AppendResults(nil, results)
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			data = dems.AppendResults(data[:0], results)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := dems.DecodeResults(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}
