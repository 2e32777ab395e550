package dems

import (
	"encoding/binary"
	"fmt"
	"time"
)

// The binary forms of what the cluster knows of itself; see codec.go for the conventions.

func appendTime(dst []byte, t time.Time) []byte {
	return binary.AppendUvarint(dst, uint64(max(0, t.UnixMilli())))
}

func appendVerdict(dst []byte, v *Verdict) []byte {
	dst = AppendText(dst, string(v.Node))
	dst = binary.AppendUvarint(dst, v.Incarnation)
	dst = AppendText(dst, string(v.By))
	dst = binary.AppendUvarint(dst, v.ByIncarnation)
	dst = binary.AppendUvarint(dst, v.Index)
	dst = AppendText(AppendText(dst, v.Expected), v.Answered)
	return appendTime(dst, v.Time)
}

func decodeVerdict(d *Decoder) Verdict {
	v := Verdict{
		Node: d.node(), Incarnation: d.Uvarint(), By: d.node(), ByIncarnation: d.Uvarint(), Index: d.Uvarint(),
		Expected: d.Text(MaxEvidenceBytes), Answered: d.Text(MaxEvidenceBytes), Time: d.time(),
	}
	d.check(v.Incarnation != 0 && v.ByIncarnation != 0, "verdict without incarnations")
	return v
}

func appendReplacement(dst []byte, r *Replacement) []byte {
	dst = AppendText(dst, string(r.Node))
	dst = binary.AppendUvarint(dst, r.Incarnation)
	dst = AppendText(AppendText(dst, r.By), r.Cause)
	automatic := byte(0)
	if r.Automatic {
		automatic = 1
	}
	return appendTime(append(dst, automatic), r.Time)
}

func decodeReplacement(d *Decoder) Replacement {
	r := Replacement{
		Node: d.node(), Incarnation: d.Uvarint(), By: d.Text(MaxNameBytes), Cause: d.Text(MaxEvidenceBytes),
	}
	automatic := d.Byte()
	d.check(automatic <= 1, "a flag that is neither 0 nor 1")
	r.Automatic, r.Time = automatic == 1, d.time()
	d.check(r.Incarnation != 0, "replacement without an incarnation")
	return r
}

// AppendIncident appends the binary form of an incident, without its sequence.
func AppendIncident(dst []byte, i *Incident) []byte {
	dst = append(dst, byte(i.Kind))
	dst = appendTime(dst, i.Time)
	dst = AppendText(dst, string(i.Node))
	dst = binary.AppendUvarint(dst, i.Incarnation)
	dst = AppendText(dst, i.By)
	dst = binary.AppendUvarint(dst, i.Index)
	return AppendText(AppendText(AppendText(dst, i.Expected), i.Answered), i.Detail)
}

// DecodeIncident is the inverse of AppendIncident.
func DecodeIncident(d *Decoder) Incident {
	i := Incident{Kind: IncidentKind(d.Byte()), Time: d.time()}
	d.check(i.Kind > 0 && i.Kind < incidentKindCount, "unknown kind of incident")
	i.Node = NodeID(d.Text(MaxNameBytes))
	d.check(i.Node == "" || ValidName(string(i.Node)), "invalid node ID")
	i.Incarnation, i.By, i.Index = d.Uvarint(), d.Text(MaxNameBytes), d.Uvarint()
	i.Expected, i.Answered, i.Detail = d.Text(MaxEvidenceBytes), d.Text(MaxEvidenceBytes), d.Text(MaxEvidenceBytes)
	return i
}

// AppendIncidents appends the binary form of incidents: how many, then the sequence and the form of each.
func AppendIncidents(dst []byte, incidents []Incident) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(incidents)))
	for i := range incidents {
		dst = AppendIncident(binary.AppendUvarint(dst, incidents[i].Sequence), &incidents[i])
	}
	return dst
}

// DecodeIncidents is the inverse of AppendIncidents.
func DecodeIncidents(data []byte) ([]Incident, error) {
	d := NewDecoder(data)
	count := d.Count(MaxIncidents)
	d.check(count <= d.Rest()/minIncidentBytes, "truncated")
	incidents := []Incident{}
	for range count {
		if d.err != nil {
			break
		}
		sequence := d.Uvarint()
		incident := DecodeIncident(d)
		incident.Sequence = sequence
		incidents = append(incidents, incident)
	}
	if err := d.Finish(); err != nil {
		return nil, fmt.Errorf("incidents: %w", err)
	}
	return incidents, nil
}

// minIncidentBytes is the smallest binary form of an incident with its sequence.
const minIncidentBytes = 10

// node reads a node's ID.
func (d *Decoder) node() NodeID {
	id := NodeID(d.Text(MaxNameBytes))
	d.check(ValidName(string(id)), "invalid node ID")
	return id
}
