package store

import (
	"encoding/json"
	"reflect"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
)

// decodeHeader reads the clear header of a record. Package json first builds
// encoders and decoders for every type below connection.Header, which takes
// longer than all the rest of a read; a process reads one record. So the values
// are put into the fields one by one, and json has the last word on every
// document for which that does not work out to the last key.
func decodeHeader(doc []byte, h *connection.Header) error {
	var values map[string]any
	if err := json.Unmarshal(doc, &values); err != nil {
		return err
	}
	if values != nil && setFields(reflect.ValueOf(h).Elem(), values) {
		return nil
	}
	*h = connection.Header{}
	return json.Unmarshal(doc, h)
}

// setFields reports whether every value has found its field.
func setFields(to reflect.Value, values map[string]any) bool {
	t, found := to.Type(), 0
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		v, ok := values[name]
		if !ok {
			continue
		}
		if name == "" || !setValue(to.Field(i), v) {
			return false
		}
		found++
	}
	return found == len(values)
}

// setValue sets to, which is zero, to a value that json has read.
func setValue(to reflect.Value, v any) bool {
	switch v := v.(type) {
	case string:
		if at, ok := to.Addr().Interface().(*time.Time); ok {
			return at.UnmarshalText([]byte(v)) == nil
		}
		if to.Kind() != reflect.String {
			return false
		}
		to.SetString(v)
	case bool:
		if to.Kind() != reflect.Bool {
			return false
		}
		to.SetBool(v)
	case float64:
		const exact = 1 << 53 // beyond, a number may not be the one that was written
		switch {
		case v < 0 || v >= exact || v != float64(int64(v)):
			return false
		case to.CanInt() && !to.OverflowInt(int64(v)):
			to.SetInt(int64(v))
		case to.CanUint() && !to.OverflowUint(uint64(v)):
			to.SetUint(uint64(v))
		default:
			return false
		}
	case []any:
		if to.Kind() != reflect.Slice {
			return false
		}
		list := reflect.MakeSlice(to.Type(), len(v), len(v))
		for i := range v {
			if !setValue(list.Index(i), v[i]) {
				return false
			}
		}
		to.Set(list)
	case map[string]any:
		switch to.Kind() {
		case reflect.Struct:
			return setFields(to, v)
		case reflect.Pointer:
			to.Set(reflect.New(to.Type().Elem()))
			return setValue(to.Elem(), v)
		case reflect.Map:
			return setMap(to, v)
		default:
			return false
		}
	default: // null
		return false
	}
	return true
}

func setMap(to reflect.Value, values map[string]any) bool {
	t := to.Type()
	if t.Key().Kind() != reflect.String {
		return false
	}
	m := reflect.MakeMapWithSize(t, len(values))
	for name, v := range values {
		item := reflect.New(t.Elem()).Elem()
		if !setValue(item, v) {
			return false
		}
		m.SetMapIndex(reflect.ValueOf(name).Convert(t.Key()), item)
	}
	to.Set(m)
	return true
}
