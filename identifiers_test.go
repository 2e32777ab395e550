package dems_test

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"pgregory.net/rapid"

	"dems"
)

// visible is the characters of an idempotency key.
var visible = &unicode.RangeTable{R16: []unicode.Range16{{Lo: '!', Hi: '~', Stride: 1}}, LatinOffset: 1}

func TestParseCity(t *testing.T) {
	for text, want := range map[string]string{
		"TOR": "TOR", "tor": "TOR", " mTl\t": "MTL", "\r\nOTW\n": "OTW", "NYC": "NYC",
		"": "", "TO": "", "TORO": "", "T R": "", "T0R": "", "TÖR": "", "T\x00R": "", "TO\xff": "", "TO\u00adR": "",
		"ＴＯＲ": "", "toſ": "", strings.Repeat(" ", 70) + "TOR": "",
	} {
		city, ok := dems.ParseCity(text)
		if ok != (want != "") || ok && city.String() != want {
			t.Errorf("ParseCity(%q) = %q, %t; want %q", text, city, ok, want)
		}
	}
	if text := (dems.City{}).String(); text != "" {
		t.Errorf("the zero City is %q", text)
	}
}

func TestParseUserID(t *testing.T) {
	for text, want := range map[string]string{
		"TORM2345": "TORM2345", "OTWC0007": "OTWC0007", "otwc0007": "OTWC0007", " Mtlm0000\n": "MTLM0000",
		"TORC9999": "TORC9999", "NYCC0001": "NYCC0001", // which cities exist is not known here
		"": "", "TOR": "", "TORM": "", "TORM234": "", "TORM23456": "", "TORX2345": "", "TORM23 5": "", "TORM-234": "",
		"TORM+234": "", "T0RM2345": "", "TOR M2345": "", "TORM 2345": "", "TORM23.5": "", "TORM12e4": "",
		"TORM٢٣٤٥": "", "TORM2\x003": "", "ＴORM2345": "", "TORM234５": "", "\u00a0TORM2345": "", "TORM2345\x00": "",
	} {
		user, ok := dems.ParseUserID(text)
		if ok != (want != "") || ok && user.String() != want {
			t.Errorf("ParseUserID(%q) = %q, %t; want %q", text, user, ok, want)
		}
	}
	manager, _ := dems.ParseUserID("TORM2345")
	if !manager.IsManager() || manager.IsCustomer() || manager.Number != 2345 {
		t.Errorf("TORM2345 parsed as %+v", manager)
	}
	customer, _ := dems.ParseUserID("OTWC0007")
	if customer.IsManager() || !customer.IsCustomer() || customer.Number != 7 {
		t.Errorf("OTWC0007 parsed as %+v", customer)
	}
	if text := (dems.UserID{}).String(); text != "" {
		t.Errorf("the zero UserID is %q", text)
	}
}

func TestParseEventID(t *testing.T) {
	for text, want := range map[string]string{
		"TORM100519": "TORM100519", "otwa100519": "OTWA100519", " MTLE100519 ": "MTLE100519",
		"TORM290220": "TORM290220", "TORM290200": "TORM290200", "TORE311299": "TORE311299", "TORM010100": "TORM010100",
		"TORM290219": "", "TORM310219": "", "TORM300220": "", "TORM310419": "", "TORM310619": "", "TORM310919": "",
		"TORM311119": "", "TORM320119": "", "TORM000119": "", "TORM010019": "", "TORM011319": "", "TORM000000": "",
		"": "", "TORM10051": "", "TORM1005199": "", "TORX100519": "", "TOR 100519": "", "TOR\x00100519": "",
		"TORM1005-9": "", "TORM10 519": "", "TORM1005١9": "", "T1RM100519": "", "TORM10051９": "", "TORMM00519": "",
		"TORM+10519": "",
	} {
		id, ok := dems.ParseEventID(text)
		if ok != (want != "") || ok && id.String() != want {
			t.Errorf("ParseEventID(%q) = %q, %t; want %q", text, id, ok, want)
		}
	}
	if text := (dems.EventID{}).String(); text != "" {
		t.Errorf("the zero EventID is %q", text)
	}
}

// TestDates compares Date.Valid with the calendar for every day, month and year that six digits can say.
func TestDates(t *testing.T) {
	for year := range 100 {
		for month := range 100 {
			for day := range 100 {
				date := time.Date(2000+year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
				want := date.Year() == 2000+year && int(date.Month()) == month && date.Day() == day
				if got := (dems.Date{Year: uint8(year), Month: uint8(month), Day: uint8(day)}).Valid(); got != want {
					t.Fatalf("%02d%02d%02d: valid is %t, want %t", day, month, year, got, want)
				}
			}
		}
	}
	if (dems.Date{Year: 100, Month: 1, Day: 1}).Valid() {
		t.Error("a year after 2099 is valid")
	}
}

func TestMonthNumber(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawDate(t), drawDate(t)
		same := a.Year == b.Year && a.Month == b.Month
		if (a.MonthNumber() == b.MonthNumber()) != same {
			t.Fatalf("%+v and %+v: month numbers %d and %d", a, b, a.MonthNumber(), b.MonthNumber())
		}
	})
}

func TestParseEventType(t *testing.T) {
	for text, want := range map[string]dems.EventType{
		"conference": dems.Conference, "Conferences": dems.Conference, " CONFERENCE ": dems.Conference,
		"seminar": dems.Seminar, "Seminars": dems.Seminar, "s-e-m-i-n-a-r": dems.Seminar, "SEMINAR_S": dems.Seminar,
		"tradeshow": dems.TradeShow, "Trade Shows": dems.TradeShow, "TRADE-SHOW": dems.TradeShow,
		"trade_show": dems.TradeShow, "trade\tshow": dems.TradeShow, "TradeShow": dems.TradeShow,
		"": 0, "s": 0, "-": 0, "party": 0, "seminarss": 0, "seminare": 0, "semin": 0, "seminar1": 0, "sseminar": 0,
		"trade.show": 0, "seminar\x00": 0, "ſeminar": 0, "trade\u00a0show": 0, "seminar\xff": 0,
		strings.Repeat("-", 60) + "seminar": 0,
	} {
		got, ok := dems.ParseEventType(text)
		if got != want || ok != (want != 0) {
			t.Errorf("ParseEventType(%q) = %v, %t; want %v", text, got, ok, want)
		}
	}
	for _, eventType := range dems.EventTypes {
		if parsed, ok := dems.ParseEventType(eventType.String()); !ok || parsed != eventType {
			t.Errorf("%v does not parse back", eventType)
		}
	}
	if dems.EventType(0).String() != "" || dems.EventType(4).String() != "" {
		t.Error("what is no event type has a name")
	}
}

// TestCanonicalForms shows that every identifier prints in the one form that parses back to it, also from lower case
// with spaces around.
func TestCanonicalForms(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		space := rapid.StringMatching(`[ \t\r\n]{0,4}`).Draw(t, "space")
		user := drawUser(t, dems.Manager, dems.Customer)
		event := drawEventID(t)
		for _, text := range []string{user.String(), strings.ToLower(user.String()), space + user.String() + space} {
			if parsed, ok := dems.ParseUserID(text); !ok || parsed != user {
				t.Fatalf("ParseUserID(%q) = %v, %t", text, parsed, ok)
			}
		}
		for _, text := range []string{event.String(), strings.ToLower(event.String()), space + event.String() + space} {
			if parsed, ok := dems.ParseEventID(text); !ok || parsed != event {
				t.Fatalf("ParseEventID(%q) = %v, %t", text, parsed, ok)
			}
		}
	})
}

// TestOrder shows that Order is one-to-one and that comparing orders is comparing date, slot, city and type.
func TestOrder(t *testing.T) {
	chronological := func(a, b dems.EventKey) int {
		return cmp.Or(
			cmp.Compare(a.ID.Date.Year, b.ID.Date.Year),
			cmp.Compare(a.ID.Date.Month, b.ID.Date.Month),
			cmp.Compare(a.ID.Date.Day, b.ID.Date.Day),
			cmp.Compare(a.ID.Slot, b.ID.Slot),
			strings.Compare(a.ID.City.String(), b.ID.City.String()),
			strings.Compare(a.Type.String(), b.Type.String()),
		)
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawEvent(t), drawEvent(t)
		if rapid.Bool().Draw(t, "same day") {
			b.ID.Date = a.ID.Date
		}
		if rapid.Bool().Draw(t, "same slot") {
			b.ID.Slot = a.ID.Slot
		}
		if back := dems.EventKeyFromOrder(a.Order()); back != a {
			t.Fatalf("%v comes back as %v", a, back)
		}
		if got, want := a.Compare(b), chronological(a, b); got != want {
			t.Fatalf("%v compared with %v: %d, want %d", a, b, got, want)
		}
		untyped := dems.EventKey{ID: a.ID}
		if untyped.Compare(a) >= 0 {
			t.Fatalf("%v without a type is not before it", a)
		}
	})
}

func TestChronologicalOrder(t *testing.T) {
	texts := []string{
		"tradeshow/TORE311218", "seminar/TORM020519", "conference/MTLA020519", "conference/OTWA020519",
		"conference/TORA020519", "seminar/TORA020519", "tradeshow/TORA020519", "conference/MTLE020519",
		"seminar/MTLM030519", "seminar/MTLM010619",
	}
	var keys []dems.EventKey
	for _, text := range texts {
		eventType, id, _ := strings.Cut(text, "/")
		key := dems.EventKey{}
		key.Type, _ = dems.ParseEventType(eventType)
		key.ID, _ = dems.ParseEventID(id)
		keys = append(keys, key)
	}
	slices.Reverse(keys)
	slices.SortFunc(keys, dems.EventKey.Compare)
	for i, key := range keys {
		if key.String() != texts[i] {
			t.Errorf("position %d: %v, want %s", i, key, texts[i])
		}
	}
}

func TestUserOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawUser(t, dems.Manager, dems.Customer), drawUser(t, dems.Manager, dems.Customer)
		if back := dems.UserIDFromOrder(a.Order()); back != a {
			t.Fatalf("%v comes back as %v", a, back)
		}
		if got, want := a.Compare(b), strings.Compare(a.String(), b.String()); got != want {
			t.Fatalf("%v compared with %v: %d, want %d", a, b, got, want)
		}
	})
}

func TestIsForeign(t *testing.T) {
	event := dems.EventKey{Type: dems.Seminar, ID: dems.EventID{City: dems.City{'T', 'O', 'R'}}}
	home, _ := dems.ParseUserID("TORC0001")
	away, _ := dems.ParseUserID("MTLC0001")
	if event.IsForeign(home) || !event.IsForeign(away) {
		t.Error("foreign is not what is outside the home city")
	}
}

func TestIdentifiersInJSON(t *testing.T) {
	user, _ := dems.ParseUserID("TORC0001")
	event, _ := dems.ParseEventID("TORM100519")
	got, err := json.Marshal(map[string]any{
		"city": user.City, "event": event, "outcome": dems.Booked, "type": dems.Seminar, "user": user, "digest": dems.Digest{0xab},
	})
	want := `{"city":"TOR","digest":"ab000000000000000000000000000000","event":"TORM100519","outcome":"booked",` +
		`"type":"seminar","user":"TORC0001"}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
}

func TestParseCities(t *testing.T) {
	got, err := dems.ParseCities(" tor = Toronto , MTL=Montreal,OTW=  Ottawa")
	if err != nil || got.String() != "MTL=Montreal,OTW=Ottawa,TOR=Toronto" || !slices.Equal(got, dems.DefaultCities()) {
		t.Fatalf("got %v, %v", got, err)
	}
	for i, named := range got {
		if got.Index(named.City) != i || !got.Has(named.City) {
			t.Errorf("%v: index %d, want %d", named.City, got.Index(named.City), i)
		}
	}
	for _, absent := range []dems.City{{}, {'A', 'A', 'A'}, {'N', 'Y', 'C'}, {'Z', 'Z', 'Z'}} {
		if got.Has(absent) || got.Index(absent) != -1 {
			t.Errorf("%v is there", absent)
		}
	}
	if odd, err := dems.ParseCities("SAO=São Paulo = Sampa"); err != nil || odd.String() != "SAO=São Paulo = Sampa" {
		t.Errorf("got %v, %v", odd, err)
	}
	if long, err := dems.ParseCities("AAA=" + strings.Repeat(" ", 80) + strings.Repeat("x", dems.MaxCityNameBytes)); err != nil {
		t.Errorf("spaces count for the length of a name: %v, %v", long, err)
	}
}

func TestParseCitiesRefuses(t *testing.T) {
	var many []string
	for i := range dems.MaxCities + 1 {
		many = append(many, string([]byte{'A', 'A' + byte(i/26), 'A' + byte(i%26)})+"=x")
	}
	if cities, err := dems.ParseCities(strings.Join(many[1:], ",")); err != nil || len(cities) != dems.MaxCities {
		t.Errorf("%d cities: %v", dems.MaxCities, err)
	}
	for text, want := range map[string]string{
		"": "three letters", "TOR": "three letters", "TOR=": "three letters", "TOR= ": "three letters", "=Toronto": "three letters",
		"TOR=Toronto,": "three letters", "TO=Toronto": "three letters", "T0R=Toronto": "three letters",
		"TOR=Toronto,tor=Again":      "twice",
		"TOR=Tor\nonto":              "printable",
		"TOR=\x1b[31mToronto":        "printable",
		"TOR=Toronto\xff":            "printable",
		strings.Join(many, ","):      "at most",
		"TOR=" + longText(65):        "at most",
		"TOR=Toronto;MTL=Montreal\t": "",
	} {
		_, err := dems.ParseCities(text)
		if want == "" {
			if err != nil {
				t.Errorf("ParseCities(%q): %v", text, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseCities(%.40q): %v; want an error with %q", text, err, want)
		}
	}
}

func longText(length int) string { return strings.Repeat("x", length) }

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"n1": true, "a": true, "fe-1": true, "n-": true, strings.Repeat("n", 32): true,
		"": false, "1n": false, "-n": false, "N1": false, "n_1": false, "n.1": false, "n 1": false, "../n": false, "né": false,
		strings.Repeat("n", 33): false,
	} {
		if got := dems.ValidName(name); got != want {
			t.Errorf("ValidName(%q) = %t", name, got)
		}
	}
}

// FuzzIdentifiers shows that whatever a parser accepts prints in a canonical form that parses to the same value.
func FuzzIdentifiers(f *testing.F) {
	for _, seed := range []string{
		"TOR", "torm2345", " OTWC0007 ", "TORM290220", "TORM310219", "Trade Shows", "seminar", "TOR=Toronto,MTL=Montreal", "n1", "\xff",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if city, ok := dems.ParseCity(text); ok {
			if again, ok := dems.ParseCity(city.String()); !ok || again != city || len(city.String()) != 3 {
				t.Errorf("city %q from %q", city, text)
			}
		}
		if user, ok := dems.ParseUserID(text); ok {
			if again, ok := dems.ParseUserID(user.String()); !ok || again != user || len(user.String()) != 8 {
				t.Errorf("user %q from %q", user, text)
			}
		}
		if event, ok := dems.ParseEventID(text); ok {
			if again, ok := dems.ParseEventID(event.String()); !ok || again != event || !event.Date.Valid() {
				t.Errorf("event %q from %q", event, text)
			}
		}
		if eventType, ok := dems.ParseEventType(text); ok != (eventType != 0) {
			t.Errorf("event type %q from %q", eventType, text)
		}
		if cities, err := dems.ParseCities(text); err == nil {
			again, err := dems.ParseCities(cities.String())
			if err != nil || !slices.Equal(again, cities) {
				t.Errorf("cities %q from %q: %v", cities, text, err)
			}
		}
	})
}
