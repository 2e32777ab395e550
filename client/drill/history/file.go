package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
	"unicode/utf8"

	"dems"
)

// MaxLineBytes is the longest line of a file, in bytes. A list of a thousand events fits many times.
const MaxLineBytes = 1 << 20

const (
	formatName    = "dems-history"
	formatVersion = 1
)

// Header is what a file says of a history as a whole.
type Header struct {
	Seed  uint64    // of the drill
	Began time.Time // when the times of the operations are counted from, UTC
}

// head is the first line of a file.
type head struct {
	Format     string    `json:"format"`
	Version    int       `json:"version"`
	Seed       uint64    `json:"seed"`
	Began      time.Time `json:"began"`
	Operations int       `json:"operations"`
}

// Write writes a history: a line about it, then a line an operation. What it writes, Read reads; an operation that Read would
// refuse is an error.
func Write(w io.Writer, header Header, operations []Operation) error {
	if len(operations) > MaxOperations {
		return fmt.Errorf("a history has at most %d operations, not %d", MaxOperations, len(operations))
	}
	buffer := bufio.NewWriterSize(w, 1<<16)
	first, err := encode(head{formatName, formatVersion, header.Seed, header.Began.UTC(), len(operations)})
	if err != nil {
		return err
	}
	buffer.Write(first) // the error of a write comes again with Flush
	var last uint64
	for i := range operations {
		text, err := encodeOperation(&operations[i], last)
		if err != nil {
			return fmt.Errorf("operation %d: %w", operations[i].Number, err)
		}
		last = operations[i].Number
		if _, err := buffer.Write(text); err != nil {
			return err
		}
	}
	return buffer.Flush()
}

// Read reads what Write wrote, and nothing else. The error says which line is wrong.
func Read(r io.Reader) (Header, []Operation, error) {
	lines := bufio.NewReaderSize(r, MaxLineBytes)
	var first head
	if err := readLine(lines, func(text []byte) error { return decodeHead(text, &first) }); err != nil {
		return Header{}, nil, fmt.Errorf("line 1: %w", err)
	}
	var operations []Operation
	var last uint64
	for i := range first.Operations {
		var o Operation
		if err := readLine(lines, func(text []byte) error { return decodeOperation(text, &o, last) }); err != nil {
			return Header{}, nil, fmt.Errorf("line %d: %w", i+2, err)
		}
		operations, last = append(operations, o), o.Number
	}
	if _, err := lines.ReadByte(); err == nil {
		return Header{}, nil, fmt.Errorf("line %d: there are more lines than the %d operations that line 1 announces",
			first.Operations+2, first.Operations)
	} else if !errors.Is(err, io.EOF) {
		return Header{}, nil, err
	}
	return Header{Seed: first.Seed, Began: first.Began}, operations, nil
}

// readLine has the next line decoded, with the character that ends it.
func readLine(lines *bufio.Reader, decode func(text []byte) error) error {
	text, err := lines.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return fmt.Errorf("longer than %d bytes", MaxLineBytes)
	case errors.Is(err, io.EOF):
		return errors.New("the file is cut off here")
	case err != nil:
		return err
	}
	return decode(text)
}

// encode returns a value as a line of JSON.
func encode(value any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	if err == nil && text.Len() > MaxLineBytes {
		err = fmt.Errorf("longer than %d bytes", MaxLineBytes)
	}
	return text.Bytes(), err
}

// decode decodes a line and checks that it is what encode makes of the value: then nothing is repeated, unknown, or written in
// two ways.
func decode(text []byte, value any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(value); err != nil {
		return err
	}
	again, err := encode(value)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, text) {
		return errors.New("not as it would be written: fields in order, each once, nothing between or after them")
	}
	return nil
}

func decodeHead(text []byte, first *head) error {
	if err := decode(text, first); err != nil {
		return err
	}
	switch {
	case first.Format != formatName:
		return fmt.Errorf("the format is %.40q, not %q", first.Format, formatName)
	case first.Version != formatVersion:
		return fmt.Errorf("the version is %d; this program reads %d", first.Version, formatVersion)
	case first.Operations < 0 || first.Operations > MaxOperations:
		return fmt.Errorf("%d operations; a history has at most %d", first.Operations, MaxOperations)
	case first.Began.Location() != time.UTC:
		return errors.New("the time at which it began is not UTC")
	}
	return nil
}

func encodeOperation(o *Operation, last uint64) ([]byte, error) {
	if err := check(o, last); err != nil {
		return nil, err
	}
	l := line{
		Number: o.Number, Group: o.Group, Client: o.Client, Call: seconds(o.Call), Return: seconds(o.Return),
		As: o.Command.By, Do: objectOf(&o.Command), Outcome: o.Outcome.String(), Error: o.Error,
	}
	if back, err := l.Do.command(l.As); err != nil {
		return nil, err
	} else if back != o.Command {
		return nil, fmt.Errorf("%s has parameters that it has no use for, or a time", l.Do.Op)
	}
	if o.Outcome == Answered {
		l.Result = answerOf(&o.Result)
		if back, err := l.Result.result(); err != nil {
			return nil, err
		} else if !equalResults(&back, &o.Result) {
			return nil, fmt.Errorf("the result %+v cannot be written", o.Result)
		}
	}
	return encode(l)
}

func decodeOperation(text []byte, o *Operation, last uint64) error {
	var l line
	if err := decode(text, &l); err != nil {
		return err
	}
	command, err := l.Do.command(l.As)
	if err != nil {
		return err
	}
	*o = Operation{
		Number: l.Number, Group: l.Group, Client: l.Client, Call: time.Duration(l.Call), Return: time.Duration(l.Return),
		Command: command, Error: l.Error,
	}
	for o.Outcome = Answered; o.Outcome < outcomeCount && o.Outcome.String() != l.Outcome; o.Outcome++ {
	}
	if (l.Result != nil) != (o.Outcome == Answered) {
		return errors.New("an operation has a result exactly if it was answered")
	}
	if l.Result != nil {
		if o.Result, err = l.Result.result(); err != nil {
			return err
		}
	}
	return check(o, last)
}

// check returns what is wrong with an operation, of which the one before has the number last.
func check(o *Operation, last uint64) error {
	switch {
	case o.Number <= last:
		return fmt.Errorf("number %d after %d", o.Number, last)
	case o.Group < 0 || o.Group > math.MaxInt32 || o.Client < 0 || o.Client > math.MaxInt32:
		return fmt.Errorf("group %d or client %d is not a number of one", o.Group, o.Client)
	case o.Call < 0 || o.Return < o.Call:
		return fmt.Errorf("called at %s, returned at %s", o.Call, o.Return)
	case o.Outcome == 0 || o.Outcome >= outcomeCount:
		return errors.New("the outcome is answered, failed or unknown")
	case len(o.Error) > MaxErrorBytes || !utf8.ValidString(o.Error):
		return fmt.Errorf("the error is longer than %d bytes, or not UTF-8", MaxErrorBytes)
	case o.Command.Key != "" && !dems.ValidKey(o.Command.Key):
		return errors.New("the key is not an idempotency key")
	case !wellFormed(o):
		return errors.New("an identifier is not well-formed")
	case o.Outcome != Answered && !equalResults(&o.Result, &dems.Result{}):
		return errors.New("there is a result although it was not answered")
	}
	return nil
}
