#!/usr/bin/env bash
# Builds gpio-sim.ko, the kernel's own GPIO simulator, for the virtual machine: Debian's kernels have it switched off.
# What it needs of the kernel beside it (irq_sim) is linked in. Run it after image.sh; again, it builds only what has changed.
set -euo pipefail
LAB=${GATEPOST_LAB:-${XDG_CACHE_HOME:-$HOME/.cache}/gatepost-lab}
version=$(cd "$LAB/kernel/boot" && echo vmlinuz-*) && version=${version#vmlinuz-}
source=linux-source-${version%.*}; headers=/usr/src/linux-headers-$version; archive=/usr/src/$source.tar.xz
if [ ! -d "$headers" ] || [ ! -f "$archive" ] || ! command -v make gcc >/dev/null; then
  echo "gpio.sh: missing: apt-get install --no-install-recommends linux-headers-$version $source make gcc" >&2
  exit 1
fi
cd "$LAB"
[ "$(cat gpio-sim.done 2>/dev/null)" != "$version" ] || exit 0
rm -rf gpio-sim gpio-sim.done; mkdir gpio-sim; cd gpio-sim
tar -xJf "$archive" --strip-components=3 --occurrence=1 $source/drivers/gpio/gpio-sim.c $source/drivers/gpio/gpiolib.h $source/kernel/irq/irq_sim.c
# irq_to_desc() is not for modules; generic_handle_irq() does the same to an interrupt of its own.
sed -i 's/handle_simple_irq(irq_to_desc(irqnum));/generic_handle_irq(irqnum);/' irq_sim.c
printf 'obj-m := gpio-simulator.o\ngpio-simulator-y := gpio-sim.o irq_sim.o\nccflags-y := -I$(src)\n' >Makefile
make -s -C "$headers" M="$PWD" modules >build.log 2>&1 || { cat build.log >&2; exit 1; }
strip --strip-debug gpio-simulator.ko
cp gpio-simulator.ko ../gpio-sim.ko; cd ..; rm -rf gpio-sim
echo "$version" >gpio-sim.done
