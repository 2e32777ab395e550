package dems

import (
	"encoding/json"
	"testing"
)

func TestIdentifiersReadBackWhatTheyWrite(t *testing.T) {
	type identifiers struct {
		City  City
		User  UserID
		ID    EventID
		Event EventType
	}
	want := identifiers{
		City:  City{'T', 'O', 'R'},
		User:  UserID{City{'M', 'T', 'L'}, Customer, 7},
		ID:    EventID{City{'O', 'T', 'W'}, Evening, Date{19, 5, 10}},
		Event: TradeShow,
	}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got identifiers
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("%s reads as %+v", text, got)
	}
}

func TestMalformedIdentifiersAreRefusedWithTheirCode(t *testing.T) {
	var (
		city      = City{'T', 'O', 'R'}
		user      UserID
		id        EventID
		eventType EventType
	)
	for _, test := range []struct {
		name string
		err  error
		want Code
	}{
		{"city", city.UnmarshalText([]byte("TORO")), MalformedRequest},
		{"user", user.UnmarshalText([]byte("TORX0001")), InvalidUserID},
		{"event ID", id.UnmarshalText([]byte("TORM310219")), InvalidEventID},
		{"event type", eventType.UnmarshalText([]byte("")), InvalidEventType},
	} {
		if got := CodeOf(test.err); got != test.want {
			t.Errorf("%s: code %v, want %v", test.name, got, test.want)
		}
	}
	if city != (City{'T', 'O', 'R'}) {
		t.Errorf("a refusal changed the city to %v", city)
	}
}
