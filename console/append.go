package console

import (
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/resp"
)

// Append appends a value as a reply: a struct as a map with the names that its fields have in JSON, but with
// dashes, as Redis writes them. A field that JSON would omit is left out.
func Append(dst []byte, v resp.Version, value any) []byte {
	return appendValue(dst, v, reflect.ValueOf(value))
}

func appendValue(dst []byte, v resp.Version, value reflect.Value) []byte {
	switch x := value.Interface().(type) {
	case time.Time:
		return resp.AppendBulkString(dst, x.UTC().Format(time.RFC3339Nano))
	case []string:
		dst = resp.AppendArray(dst, len(x))
		for _, text := range x {
			dst = resp.AppendBulkString(dst, text)
		}
		return dst
	}
	switch value.Kind() {
	case reflect.Pointer:
		return appendValue(dst, v, value.Elem()) // fields with nil are left out
	case reflect.Struct:
		fields := fieldsOf(nil, value)
		dst = v.AppendMap(dst, len(fields))
		for _, f := range fields {
			dst = appendValue(resp.AppendBulkString(dst, f.name), v, f.value)
		}
		return dst
	case reflect.Slice:
		dst = resp.AppendArray(dst, value.Len())
		for i := range value.Len() {
			dst = appendValue(dst, v, value.Index(i))
		}
		return dst
	case reflect.Bool:
		if value.Bool() {
			return resp.AppendInt(dst, 1)
		}
		return resp.AppendInt(dst, 0)
	case reflect.Float32, reflect.Float64:
		return v.AppendDouble(dst, decimal(value.Float()))
	case reflect.String:
		return resp.AppendBulkString(dst, value.String())
	}
	if value.CanUint() {
		return resp.AppendInt(dst, int64(value.Uint()))
	}
	return resp.AppendInt(dst, value.Int())
}

// field is a field of a struct, as a reply has it.
type field struct {
	name  string
	value reflect.Value
}

// fieldsOf adds the fields of a struct, those of embedded ones included.
func fieldsOf(all []field, of reflect.Value) []field {
	for i := range of.NumField() {
		f := of.Type().Field(i)
		if f.Anonymous {
			all = fieldsOf(all, of.Field(i))
			continue
		}
		name, option, _ := strings.Cut(f.Tag.Get("json"), ",")
		if option != "" && of.Field(i).IsZero() || name == "" || name == "-" {
			continue
		}
		all = append(all, field{strings.ReplaceAll(name, "_", "-"), of.Field(i)})
	}
	return all
}

// decimal returns a number with six digits, without an exponent.
func decimal(x float64) string {
	if x == 0 || math.IsNaN(x) || math.IsInf(x, 0) {
		return "0"
	}
	unit := math.Pow(10, 5-math.Floor(math.Log10(math.Abs(x))))
	return strconv.FormatFloat(math.Round(x*unit)/unit, 'f', -1, 64)
}
