package buffer

// spare is a stack of values that are not in use, so that they need not be made anew. The zero value is empty.
type spare[T any] struct {
	all    []T
	unused int // the smallest length since the last trim: so many values were not needed
}

// take removes and returns a value. It returns false if there is none.
func (s *spare[T]) take() (v T, ok bool) {
	last := len(s.all) - 1
	if last < 0 {
		return v, false
	}
	var none T
	v, s.all[last] = s.all[last], none
	s.all = s.all[:last]
	s.unused = min(s.unused, last)
	return v, true
}

func (s *spare[T]) put(v T) { s.all = append(s.all, v) }

// trim drops half of the values that were not needed since the last trim, if these are more than keep: all
// of them in time, but few where the load comes in waves. It returns how many it has dropped.
func (s *spare[T]) trim(keep int) (dropped int) {
	if s.unused > keep {
		dropped = (s.unused - keep + 1) / 2
		rest := len(s.all) - dropped
		clear(s.all[rest:])
		s.all = s.all[:rest]
	}
	s.unused = len(s.all)
	return dropped
}
