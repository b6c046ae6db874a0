/* SPDX-License-Identifier: GPL-2.0 */
/* An HX711 on two lines of gpio-sim: hx_clk (PD_SCK, which the program drives) and hx_dt (DOUT, which it reads).
 *
 * It answers inside the chip's own callbacks, because no process can answer within a clock pulse. One scale; its
 * parameters are files in /sys/module/gpio_sim/parameters, a line of -1 means that no scale is connected. The part
 * as its datasheet tells it, not compared with a real one; DOUT falling raises no interrupt, so it must be polled.
 */
#include <linux/ktime.h>
#include <linux/moduleparam.h>

#define HX_PULSES 25				/* 24 bits, and one that asks for channel A, gain 128, next */

static int hx_clk = -1, hx_dt = -1;
static int hx_raw;				/* what the next conversion gives, 24-bit two's complement */
static int hx_period_us = 100000;		/* 10 conversions a second; 12500 for 80 */
static int hx_high_max_us = 60;			/* PD_SCK high for longer powers the part down */
static int hx_settling_us = 400000;		/* until the first conversion after a power-down */
module_param(hx_clk, int, 0644);
module_param(hx_dt, int, 0644);
module_param(hx_raw, int, 0644);
module_param(hx_period_us, int, 0644);
module_param(hx_high_max_us, int, 0644);
module_param(hx_settling_us, int, 0644);

static ulong hx_frames, hx_resets, hx_pulses, hx_high_longest_ns;	/* counted for the test, which may zero them */
module_param(hx_frames, ulong, 0644);
module_param(hx_resets, ulong, 0644);
module_param(hx_pulses, ulong, 0644);
module_param(hx_high_longest_ns, ulong, 0644);

static struct {
	u64 rise_ns, ready_ns;
	u32 word;
	int pulse;				/* of this frame; 0: none yet */
	bool high;
} hx;

static bool hx_is_asleep(u64 now_ns)
{
	return hx.high && now_ns - hx.rise_ns > (u64)hx_high_max_us * 1000;
}

static void hx_rises(u64 now_ns)
{
	hx.rise_ns = now_ns;
	hx_pulses++;
	if (hx.pulse >= HX_PULSES && now_ns >= hx.ready_ns)
		hx.pulse = 0;
	if (hx.pulse == 0) {
		if (now_ns < hx.ready_ns)
			return;			/* nothing is converted yet: the pulse is ignored */
		hx.word = (u32)READ_ONCE(hx_raw) & 0xffffff;
	}
	if (++hx.pulse == HX_PULSES) {
		hx_frames++;
		hx.ready_ns = now_ns + (u64)hx_period_us * 1000;
	}
}

static void hx_falls(u64 now_ns)
{
	u64 high_ns = now_ns - hx.rise_ns;

	if (high_ns > hx_high_longest_ns)
		hx_high_longest_ns = high_ns;
	if (high_ns > (u64)hx_high_max_us * 1000) {
		hx_resets++;
		hx.pulse = 0;
		hx.ready_ns = now_ns + (u64)hx_settling_us * 1000;
	}
}

/* PD_SCK is driven to this level. */
static void hx_clock(bool high)
{
	u64 now_ns = ktime_get_ns();

	if (high == hx.high)
		return;
	if (high)
		hx_rises(now_ns);
	else
		hx_falls(now_ns);
	hx.high = high;
}

/* The level of DOUT. */
static bool hx_data(void)
{
	u64 now_ns = ktime_get_ns();

	if (hx_is_asleep(now_ns))
		return true;
	if (hx.pulse >= 1 && hx.pulse < HX_PULSES)
		return (hx.word >> (HX_PULSES - 1 - hx.pulse)) & 1;
	return now_ns < hx.ready_ns;
}
