# The boot loader's choice between the two slots. How often each may still be tried is kept twice before the first partition,
# in the loader's own format with a checksum: a cut while one copy is written leaves the other. The system gives its slot
# its tries back once it is healthy; a slot without tries is passed over.
setenv state 0x05300000
setenv tries 3
mmc dev 0
mmc read ${state} 0x800 1
if env import -c ${state} 0x200 order a_left b_left; then
  true
else
  mmc read ${state} 0x810 1
  if env import -c ${state} 0x200 order a_left b_left; then
    true
  else
    echo "Cerebrum: no valid boot state, trying both slots"
    setenv order "a b"
    setenv a_left ${tries}
    setenv b_left ${tries}
  fi
fi
for slot in "${order}"; do
  setenv left 0
  if test "x${slot}" = "xa"; then
    setenv part 2
    setenv left ${a_left}
  fi
  if test "x${slot}" = "xb"; then
    setenv part 3
    setenv left ${b_left}
  fi
  if test ${left} -gt 0; then
    setexpr left ${left} - 1
    setenv ${slot}_left ${left}
    env export -c -s 0x200 ${state} order a_left b_left
    mmc write ${state} 0x800 1
    mmc write ${state} 0x810 1
    echo "Cerebrum: starting slot ${slot}, tries left ${left}"
    setenv chosen ${slot}
    if load mmc 0:${part} 0x05400000 slot.scr; then
      source 0x05400000
    fi
    echo "Cerebrum: slot ${slot} did not start"
  fi
done
# In the order that they had: a slot that was given up stays behind the one that was well.
echo "Cerebrum: no slot is left, both get their tries back"
setenv a_left ${tries}
setenv b_left ${tries}
env export -c -s 0x200 ${state} order a_left b_left
mmc write ${state} 0x800 1
mmc write ${state} 0x810 1
reset
