// SPDX-License-Identifier: GPL-2.0
/*
 * Speculative page faults: the page table's side.
 */
#include <linux/pagemap.h>
#include <linux/pgtable.h>
#include <linux/spinlock.h>

#include "spf.h"

static_assert(IS_ENABLED(CONFIG_MMU_GATHER_RCU_TABLE_FREE),
	      "speculative faults walk page tables that RCU alone must keep");
static_assert(!__is_defined(__PAGETABLE_PMD_FOLDED),
	      "speculative faults look at a pmd again, which must be in memory");

/*
 * How often to look at a busy page table lock before giving up. Spinning is
 * safe, nobody waits for RCU with the lock held. See "A busy page table lock"
 * in Documentation/mm/speculative_page_faults.rst for what other bounds do.
 */
#define SPF_PTL_SPINS	1024

static noinline bool spf_ptl_spin(spinlock_t *ptl)
{
	unsigned int spins;

	for (spins = 1; spins < SPF_PTL_SPINS; spins++) {
		cpu_relax();
		if (spin_trylock(ptl))
			return true;
	}
	return false;
}

/*
 * Take the page table lock and see whether the page table or the huge page is still
 * there and the VMA still as it was copied. If so, writers that come later find what
 * the fault is about to do when they get at this lock.
 */
static __always_inline bool
__spf_ptl_validate(struct vm_fault *vmf, spinlock_t *ptl)
{
	struct vma_speculation *spf = vmf_speculation(vmf);
	pmd_t pmd;

	spf_delay(SPF_DELAY_UNLOCKED);
	if (!spin_trylock(ptl) && !spf_ptl_spin(ptl)) {
		spf_abort(vmf, SPF_ABORT_PTE_LOCK);
		return false;
	}
	/*
	 * The walk read the pmd before. If a neighbour's fault populated it
	 * after a writer had skipped it as empty, taking no lock, the writer's
	 * sequence must be seen now: pairs with the full barrier after the
	 * store of vm_lock_seq in __vma_start_write().
	 */
	smp_mb__after_spinlock();

	pmd = pmdp_get_lockless(vmf->pmd);
	if (unlikely(!pmd_same(spf->pmd, pmd))) {
		spf->found = pmd;
		spf_abort(vmf, SPF_ABORT_PMD_CHANGED);
		goto unlock;
	}
	if (unlikely(READ_ONCE(spf->live->vm_lock_seq) != spf->seq)) {
		spf_abort(vmf, SPF_ABORT_VMA_CHANGED);
		goto unlock;
	}
	spf->reason = NR_SPF_ABORTS;
	spf_delay(SPF_DELAY_LOCKED);
	return true;

unlock:
	spin_unlock(ptl);
	return false;
}

/**
 * spf_ptl_validate() - Take the page table lock of a speculative fault
 * @vmf: The fault
 * @ptl: The lock, of the page table or of the huge page's entry
 *
 * Context: Within the fault's RCU section.
 * Return: true with @ptl held, as pte_map_lock(). false if the fault was aborted.
 */
bool spf_ptl_validate(struct vm_fault *vmf, spinlock_t *ptl)
{
	return __spf_ptl_validate(vmf, ptl);
}

/**
 * spf_pte_map_lock() - pte_map_lock() of a speculative fault
 * @vmf: The fault
 * @addr: The address to map, in the same page table as the fault's
 *
 * Context: Within the fault's RCU section.
 * Return: As pte_map_lock().
 */
bool spf_pte_map_lock(struct vm_fault *vmf, unsigned long addr)
{
	vmf->pte = spf_pte_map(vmf, addr);
	return spf_pte_spinlock(vmf);
}

/**
 * spf_pte_spinlock() - pte_spinlock() of a speculative fault
 * @vmf: The fault, with vmf->pte set
 *
 * Context: Within the fault's RCU section.
 * Return: As pte_spinlock(), with vmf->ptl set.
 */
bool spf_pte_spinlock(struct vm_fault *vmf)
{
	struct vma_speculation *spf = vmf_speculation(vmf);

	vmf->ptl = pte_lockptr(vmf->vma->vm_mm, &spf->pmd);
	if (likely(__spf_ptl_validate(vmf, vmf->ptl)))
		return true;

	pte_unmap(vmf->pte);
	vmf->pte = NULL;
	return false;
}

/**
 * spf_vma_unchanged() - Was the file still that of the VMA?
 * @vmf: The fault
 *
 * Until the page table is locked, the file of a speculative fault may be closed
 * and its memory become another file, one whose inode does not even stay for a
 * grace period, as those of pipes. What was read of it before this call, the
 * mapping above all, is good for the rest of the RCU section.
 *
 * Context: Within the fault's RCU section.
 * Return: false if the fault was aborted.
 */
bool spf_vma_unchanged(const struct vm_fault *vmf)
{
	struct vma_speculation *spf = vmf_speculation(vmf);

	spf_delay(SPF_DELAY_MAPPING);
	/*
	 * Pairs with the full barrier in __vma_start_write(), which the writer
	 * executes before it gives up the file.
	 */
	smp_rmb();
	if (likely(READ_ONCE(spf->live->vm_lock_seq) == spf->seq))
		return true;

	spf_abort(vmf, SPF_ABORT_VMA_CHANGED);
	return false;
}

/**
 * spf_nothing_mapped() - End a read fault for which ->map_pages() had no page
 * @vmf: The fault, at an entry that was empty
 *
 * Context: Within the fault's RCU section.
 * Return: VM_FAULT_NOPAGE if somebody else has filled the entry. VM_FAULT_RETRY if
 * the fault was aborted, be it that the page has to be read.
 */
vm_fault_t spf_nothing_mapped(struct vm_fault *vmf)
{
	bool appeared;

	if (!spf_pte_map_lock(vmf, vmf->address))
		return VM_FAULT_RETRY;
	appeared = !pte_none(ptep_get(vmf->pte));
	pte_unmap_unlock(vmf->pte, vmf->ptl);
	return appeared ? VM_FAULT_NOPAGE : spf_abort(vmf, SPF_ABORT_NEEDS_IO);
}

/**
 * spf_lock_swapcache() - Lock what a speculative fault found in the swap cache
 * @vmf: The fault, at a swap entry
 * @folio: The folio, referenced, or NULL if there is none
 *
 * Context: Within the fault's RCU section.
 * Return: 0 with the folio locked. VM_FAULT_RETRY with the reference dropped if
 * the fault was aborted.
 */
vm_fault_t spf_lock_swapcache(struct vm_fault *vmf, struct folio *folio)
{
	enum spf_abort reason;

	if (!folio)
		return spf_abort(vmf, SPF_ABORT_NEEDS_IO);

	/*
	 * The anon_vma may be younger than the copy of the VMA. And the VMA is
	 * where it is noted that a page which readahead brought is used. It is
	 * not ours to write to.
	 */
	if (unlikely(!vmf->vma->anon_vma))
		reason = SPF_ABORT_VMA_NOANON;
	else if ((!folio_test_large(folio) && folio_test_readahead(folio)) ||
		 !spf_may_allocate(vmf->vma->vm_ops))
		reason = SPF_ABORT_PTE_NOTSUP;
	else if (!folio_trylock(folio))
		reason = SPF_ABORT_FOLIO_LOCK;
	else
		return 0;

	folio_put(folio);
	return spf_abort(vmf, reason);
}

/**
 * spf_may_copy() - May a speculative fault replace its page by a copy?
 * @vmf: The fault, at a write-protected entry. vmf->page is set, or NULL
 *
 * The answer holds until the end of the RCU section.
 *
 * Context: With the page table lock of the fault.
 * Return: false if the fault was aborted.
 */
bool spf_may_copy(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;

	/* Without struct page the source is user memory, which may fault. */
	if (!vmf->page && !is_zero_pfn(pte_pfn(vmf->orig_pte))) {
		spf_abort(vmf, SPF_ABORT_PTE_NOTSUP);
		return false;
	}
	/* Pairs with synchronize_rcu() in spf_stop_copying(). */
	if (unlikely(mm_flags_test(MMF_NO_SPF_COPY, vma->vm_mm))) {
		spf_abort(vmf, SPF_ABORT_NOTIFIER);
		return false;
	}
	return true;
}
