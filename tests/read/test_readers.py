"""Real layouts of the vendors through the readers of spatialdata-io: what is found in them, too little to train on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from real_samples import merscope_files, read_merscope, read_prostate
from spatialdata import SpatialData
from vendor_layouts import read_cosmx_layout, read_merscope_layout, read_xenium_layout

from ucs._read.platforms import PLATFORMS
from ucs._read.sample import find_nuclei_key, find_source, prepare

PROTEINS = ("CD3E", "PanCK", "Nucleolin")


def prepared(sdata: SpatialData, nuclei_key: str | None = None, **options):
    """As `segment` prepares a sample, with the alignment as far as it can be told."""
    source = find_source(sdata, **options)
    return prepare(sdata, source, find_nuclei_key(sdata, source, nuclei_key))


class TestXenium:
    def test_version_1_9(self, tmp_path):
        """526 cells with 10 transcripts each."""
        sample = prepared(read_xenium_layout(tmp_path))
        assert sample.source.platform is PLATFORMS["xenium"]
        assert sample.nuclei_key == "nucleus_labels"
        assert (sample.source.columns.gene, sample.source.columns.quality) == ("feature_name", "qv")
        assert sample.transcripts.map.n_transcripts == sample.transcripts.n_rows == 5260
        assert {name.split("_")[0] for name in sample.transcripts.controls} == {"BLANK", "NegControlProbe"}
        assert len(sample.nuclei.ids) > 480  # of 526: small ones have no pixel of 1 um

    def test_polygons_of_version_1_are_those_of_the_mask(self, tmp_path):
        sdata = read_xenium_layout(tmp_path)
        labels, shapes = prepared(sdata).nuclei, prepared(sdata, "nucleus_boundaries").nuclei
        assert ((labels.labels > 0) == (shapes.labels > 0)).mean() > 0.98
        assert all(isinstance(name, str) for name in shapes.ids)

    def test_prime_5k_has_several_nuclei_in_25_cells(self, tmp_path):
        sdata = read_prostate(tmp_path)
        apart = prepared(sdata)
        assert len(apart.nuclei.ids) == 422
        source = find_source(sdata)
        fused = prepare(sdata, source, "nucleus_labels", fuse_nuclei=True)
        assert len(fused.nuclei.ids) == 397
        assert set(fused.nuclei.ids) <= set(sdata["nucleus_boundaries"]["cell_id"])
        np.testing.assert_array_equal(fused.nuclei.labels > 0, apart.nuclei.labels > 0)
        of_shapes = prepare(sdata, source, "nucleus_boundaries", fuse_nuclei=True)
        assert len(set(of_shapes.nuclei.ids) ^ set(fused.nuclei.ids)) <= 4  # slivers have a pixel in one of the two

    def test_a_protein_run_is_as_another(self, tmp_path):
        """Version 4: proteins are features of the table and channels of the image, and neither is a transcript."""
        sdata = read_prostate(tmp_path, version="4.0.0", proteins=PROTEINS, gex_only=False)
        assert sdata["morphology_focus"]["scale0"]["image"].coords["c"].to_numpy().tolist()[-3:] == list(PROTEINS)
        assert set(PROTEINS) <= set(sdata["table"].var_names)
        is_protein = (sdata["table"].var["feature_types"] == "Protein Expression").to_numpy()  # genes have these names
        sdata.tables["proteins"] = sdata["table"][:, is_protein].copy()
        sample, without = prepared(sdata), prepared(read_prostate(tmp_path / "none", version="3.0.0"))
        assert sample.transcripts.genes == without.transcripts.genes
        assert "PanCK" not in sample.transcripts.genes
        np.testing.assert_array_equal(sample.nuclei.labels, without.nuclei.labels)

    def test_nuclei_of_a_protein_run_come_from_its_dapi_if_its_own_are_missing(self, tmp_path):
        sdata = read_prostate(tmp_path, version="4.0.0", proteins=PROTEINS)
        del sdata["nucleus_labels"], sdata["nucleus_boundaries"]
        sample = prepared(sdata)
        assert sample.nuclei_key == "ucs_nuclei"
        assert len(sample.nuclei.ids) > 300

    @pytest.mark.parametrize("without", [[], ["is_gene"], ["codeword_category"]])
    def test_what_the_vendor_calls_no_gene_is_a_control(self, without, tmp_path):
        """By `is_gene` and `codeword_category`, whatever the name of the feature is."""
        kinds = {"AAMP": "unassigned_codeword", "ABCA1": "genomic_control_probe", "ABCC1": "custom_gene"}

        def change(transcripts: pd.DataFrame) -> pd.DataFrame:
            name = transcripts["feature_name"].astype(str)
            is_control = name.str.match("NegControl|Intergenic|UnassignedCodeword|DeprecatedCodeword")
            category = name.map(kinds).fillna(
                pd.Series(np.where(is_control, "negative_control_probe", "predesigned_gene"), index=name.index)
            )
            told = transcripts.assign(is_gene=category.str.endswith("_gene"), codeword_category=category)
            return told.drop(columns=without)

        transcripts = prepared(read_prostate(tmp_path, change=change)).transcripts
        assert {"AAMP", "ABCA1"} <= set(transcripts.controls)
        assert "ABCC1" in transcripts.genes
        assert not {"AAMP", "ABCA1"} & set(transcripts.genes)


MERSCOPE_LAYOUTS = {"vizgen": 100, "vizgen_cellbound": 1058, "vizgen_cellbound_Cellpose": 1058}


class TestMerscope:
    @pytest.mark.parametrize(("name", "n_cells"), MERSCOPE_LAYOUTS.items())
    def test_polygons_of_cells_are_taken_for_nuclei_when_they_are_named(self, name, n_cells, tmp_path):
        """The instrument's own, or those of a second segmentation; transcripts are thinned."""
        sdata = read_merscope_layout(tmp_path, name)
        source = find_source(sdata)
        assert source.platform is PLATFORMS["merscope"]
        assert (source.points_key, source.columns.gene) == (f"slide_{name}_transcripts", "gene")
        key = find_nuclei_key(sdata, source, f"slide_{name}_polygons")
        sample = prepare(sdata, source, key, check_alignment=False)
        assert len(sample.nuclei.ids) > 0.9 * n_cells
        assert sample.transcripts.n_rows == sample.transcripts.map.n_transcripts == len(sdata.points[source.points_key])

    def test_nuclei_come_from_dapi_or_there_is_none(self, tmp_path):
        sdata = read_merscope_layout(tmp_path, "vizgen_cellbound")
        assert find_nuclei_key(sdata, find_source(sdata), None) == "ucs_nuclei"
        without = read_merscope_layout(tmp_path, "vizgen")
        with pytest.raises(KeyError, match=r"there are: 'slide_vizgen_polygons'.*'slide_vizgen_z3' with channels 'P"):
            find_nuclei_key(without, find_source(without), None)

    def test_planes_are_chosen_by_their_number(self, tmp_path):
        sdata = read_merscope(tmp_path)
        in_plane = merscope_files()[0]["global_z"].value_counts()
        polygons = "mouse_brain_region_0_polygons"  # so that none are looked for in the image
        every, first = (prepared(sdata, polygons, z_planes=planes).transcripts for planes in (None, 0))
        assert every.map.n_transcripts == in_plane.sum()
        assert first.map.n_transcripts == in_plane[0]
        assert (first.n_rows, first.n_other_planes) == (in_plane.sum(), in_plane[1])
        both = prepared(sdata, polygons, z_planes=[1, 0]).transcripts
        np.testing.assert_array_equal(both.map.totals(), every.map.totals())


def test_cosmx(tmp_path):
    """One FOV of mouse brain with 27 cells: positions are px of 0.12028 um."""
    sdata = read_cosmx_layout(tmp_path)
    source = find_source(sdata)
    assert source.platform is PLATFORMS["cosmx"]
    assert source.columns.gene == "target"
    assert source.um_per_unit == pytest.approx(0.12028, rel=1e-3)
    sample = prepare(sdata, source, "1_labels", check_alignment=False)
    assert len(sample.nuclei.ids) == 27
    assert all(name.startswith(("Neg", "FalseCode", "SystemControl")) for name in sample.transcripts.controls)
