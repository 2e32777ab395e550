package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// MostBytes is how large the JSON form of a report may be to be read.
const MostBytes = 16 << 20

// Read reads the JSON form of a report, and nothing may follow it. It refuses fields that it does not know, what is larger than
// MostBytes, times that no drill has, and a report that has passed in spite of objections.
func Read(from io.Reader) (*Report, error) {
	text, err := io.ReadAll(io.LimitReader(from, MostBytes+1))
	if err != nil {
		return nil, fmt.Errorf("the report cannot be read: %w", err)
	}
	if len(text) > MostBytes {
		return nil, fmt.Errorf("the report has more than %d bytes; no drill writes one so large", MostBytes)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	var read file
	if err := decoder.Decode(&read); err != nil {
		return nil, fmt.Errorf("this is no report of a drill that this demsctl can read: %w", err)
	}
	if read.Format != format {
		return nil, fmt.Errorf("this is no report of a drill that this demsctl can read: its format is %d, not %d", read.Format, format)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the report; a file has one report")
	}
	report := (*Report)(&read.fields)
	if err := report.check(); err != nil {
		return nil, fmt.Errorf("this is no report that a drill has written: %w", err)
	}
	return report, nil
}

// check tells what no drill reports.
func (r *Report) check() error {
	c := checker{}
	c.seconds("seconds", r.Seconds)
	c.count("linearizability", r.Histories.Checked, r.Histories.Operations, r.Histories.NotLinearizable, r.Histories.Undecided)
	c.seconds("linearizability", r.Histories.Seconds)
	for i, service := range []Service{r.Writes, r.Reads} {
		name := []string{"writes", "reads"}[i]
		c.milliseconds(name, service.P50MS, service.P99MS, service.P999MS, service.MaxMS, service.LongestPauseMS)
	}
	for i, round := range r.Rounds {
		name := fmt.Sprintf("rounds[%d]", i)
		c.count(name, round.Number)
		c.seconds(name, round.At, round.HealedAt, round.EndedAt)
		c.milliseconds(name, round.ElectMS, round.ConvictMS, round.RepairMS, round.WritePauseMS, round.ReadPauseMS,
			round.SlowestWriteMS, round.SlowestReadMS)
		c.require(round.EndedAt == 0 || round.EndedAt >= round.At, name, "it ends before it begins")
	}
	c.require(len(r.Slices) <= mostSlices, "timeline", fmt.Sprintf("it has more than %d slices", mostSlices))
	for i, slice := range r.Slices {
		name := fmt.Sprintf("timeline[%d]", i)
		c.seconds(name, slice.From, slice.To)
		c.milliseconds(name, slice.WriteMS, slice.ReadMS, slice.P50MS, slice.P99MS)
		c.require(slice.From < slice.To, name, "it ends before it begins")
		c.require(i == 0 || slice.From >= r.Slices[i-1].From, name, "it begins before the one before it")
	}
	for i, leader := range r.Leaders {
		name := fmt.Sprintf("leaders[%d]", i)
		c.seconds(name, leader.From, leader.To)
		c.require(leader.From <= leader.To, name, "it ends before it begins")
	}
	for i, incident := range r.Incidents {
		c.seconds(fmt.Sprintf("incidents[%d]", i), incident.At)
	}
	if objections := r.Objections(); r.Passed && len(objections) > 0 {
		c.require(false, "passed", "it is true in spite of "+objections[0])
	}
	return c.err
}

// checker keeps the first thing that is wrong.
type checker struct{ err error }

func (c *checker) require(holds bool, name, otherwise string) {
	if c.err == nil && !holds {
		c.err = fmt.Errorf("%s: %s", name, otherwise)
	}
}

func (c *checker) count(name string, counts ...int) {
	for _, count := range counts {
		c.require(count >= 0, name, fmt.Sprintf("%d is no number of things", count))
	}
}

func (c *checker) seconds(name string, times ...float64) {
	for _, time := range times {
		c.require(time >= 0 && time <= mostSeconds, name, fmt.Sprintf("%v is no time in seconds within a drill", time))
	}
}

func (c *checker) milliseconds(name string, durations ...float64) {
	for _, duration := range durations {
		c.require(duration >= 0 && duration <= mostSeconds*1000, name, fmt.Sprintf("%v is no time in milliseconds", duration))
	}
}
